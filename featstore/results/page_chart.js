// The scatter chart: marks by configuration, both fronts, names along them; mouse, touch and keyboard.

const sizeOf = (width) => ({ width, height: width < 600 ? 380 : 440, left: width < 600 ? 56 : 66, right: 18, top: 24, bottom: 46 });

function ticksOf(low, high, logarithmic, most = 6) {
  if (!logarithmic) {
    const raw = (high - low || Math.abs(high) || 1) / most;
    const power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 2.5, 5, 10].map((k) => k * power).find((k) => k >= raw);
    const found = [];
    for (let k = Math.ceil(low / step); k * step <= high + step * 1e-9; k += 1) found.push(Number((k * step).toPrecision(12)));
    return found;
  }
  const within = (steps) => {
    const found = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1) {
      for (const k of steps) if (k * 10 ** power >= low * 0.999 && k * 10 ** power <= high * 1.001) found.push(k * 10 ** power);
    }
    return found;
  };
  const options = [[1, 1.5, 2, 3, 4, 5, 6, 8], [1, 2, 5], [1, 3], [1]].map(within);
  const chosen = options.find((found) => found.length <= most) ?? options[3];
  return chosen.length > most ? chosen.filter((_, i) => i % Math.ceil(chosen.length / most) === 0) : chosen;
}

// a scale from values to pixels, within a range; zero costs stand in a gutter of their own left of a logarithmic axis
function scaleOf(values, from, to, logarithmic, range = [-Infinity, Infinity], most = 6) {
  const positive = logarithmic ? values.filter((value) => value > 0) : values;
  let low = positive.reduce((a, b) => Math.min(a, b), Infinity);
  let high = positive.reduce((a, b) => Math.max(a, b), -Infinity);
  if (!positive.length) { low = 1; high = 10; }
  const zeros = logarithmic && positive.length < values.length;
  const start = zeros ? from + 46 : from;
  const map = logarithmic ? Math.log10 : (value) => value;
  const pad = (map(high) - map(low)) * 0.06 || (logarithmic ? 0.3 : Math.abs(high) * 0.05 || 0.5);
  const [a, b] = [Math.max(map(low) - pad, range[0]), Math.min(map(high) + pad, range[1])];
  const scale = (value) => (zeros && value <= 0 ? from + 18 : start + ((map(value) - a) / (b - a)) * (to - start));
  scale.low = logarithmic ? 10 ** a : a;
  scale.high = logarithmic ? 10 ** b : b;
  scale.zeros = zeros;
  scale.ticks = ticksOf(scale.low, scale.high, logarithmic, most);
  const step = Math.abs(scale.ticks[1] - scale.ticks[0]) || 1;
  scale.text = (value) => value.toFixed(Math.max(0, Math.min(6, Math.ceil(-Math.log10(step) - 1e-9) + (/^2\.?5/.test(String(step * 1e6)) ? 1 : 0))));
  return scale;
}

function makeChart(host, { reader, pick }) {
  const tip = byId('tip');
  let points = [];
  let cursor = -1;
  let svg = null;
  let shown = null;
  let size = sizeOf(900);

  function update(view) {
    shown = view;
    size = sizeOf(Math.max(280, Math.round(host.clientWidth) || 900));
    points = view.judged.rows.map((item) => ({ item, x: 0, y: 0 }));
    cursor = -1;
    host.replaceChildren();
    if (!points.length) {
      host.append(make('p', { class: 'quiet' }, 'No configuration has both this score and this cost.'));
      svg = null;
      return;
    }
    const { width, height, left, right, top, bottom } = size;
    const logarithmic = points.some(({ item }) => item.cost > 0);
    const x = scaleOf([...points.map(({ item }) => item.cost), ...view.published.map((row) => row.cost), ...(view.audio ? [view.audio] : [])],
      left, width - right, logarithmic, undefined, Math.floor((width - left - right) / 66));
    const y = scaleOf(heights(view), height - bottom, top, false, metricOf[view.metric].range);
    for (const point of points) { point.x = x(point.item.cost); point.y = y(point.item.mean); }
    svg = draw('svg', { viewBox: `0 0 ${width} ${height}`, role: 'presentation' });
    drawAxes(svg, x, y, view);
    drawAudio(svg, x, view);
    drawFronts(svg, x, y, view);
    drawPublished(svg, x, y, view);
    drawMarks(svg, y, view);
    host.append(legendOf(view), svg);
    nameFront(svg, x, y, view); // measures its texts, so the drawing has to be there
    svg.append(draw('circle', { class: 'cursor', r: 9, visibility: 'hidden' }));
  }

  // all means and guarantees, and whiskers as far as they leave these apart: those of two runs can be very long
  function heights(view) {
    const shownThere = points.flatMap(({ item }) => (item.sure ? [item.mean, guaranteed(item, view)] : [item.mean]));
    const reduce = (values, pick) => values.reduce((a, b) => pick(a, b));
    const [low, high] = [reduce(shownThere, Math.min), reduce(shownThere, Math.max)];
    const room = 0.3 * (high - low || Math.abs(high) * 0.02 || 1);
    const ends = points.filter(({ item }) => whisker(item, view)).flatMap(({ item }) => whisker(item, view));
    const reached = ends.length ? [Math.max(low - room, reduce(ends, Math.min)), Math.min(high + room, reduce(ends, Math.max))] : [];
    return [low, high, ...reached, ...view.published.map((row) => row.value)];
  }

  const guaranteed = (item, view) => view.judged.top + (metricOf[view.metric].lower ? 1 : -1) * item.bound.most;

  // ends of the interval of a mark that has a whisker; with many marks only those of the fronts have one
  function whisker(item, view) {
    const { low, high } = item.row.scores[view.metric];
    return low !== null && (points.length <= 15 || item.front || item.sure) ? [low, high] : null;
  }

  function drawAxes(target, x, y, view) {
    const { width, height, left, right, top, bottom } = size;
    const floor = height - bottom;
    for (const value of y.ticks) {
      target.append(draw('line', { class: 'grid', x1: left, x2: width - right, y1: y(value), y2: y(value) }),
        draw('text', { x: left - 8, y: y(value) + 4, 'text-anchor': 'end', class: 'quiet-text' }, y.text(value)));
    }
    const text = (value) => cost(view.costName, value).replace('–', '0');
    const marks = x.zeros ? [[0, '0'], ...x.ticks.map((v) => [v, text(v)])] : x.ticks.map((v) => [v, text(v)]);
    for (const [value, label] of marks) {
      target.append(draw('line', { class: 'grid', x1: x(value), x2: x(value), y1: top, y2: floor }),
        draw('text', { x: x(value), y: floor + 16, 'text-anchor': 'middle', class: 'quiet-text' }, label));
    }
    target.append(draw('path', { class: 'axis', fill: 'none', d: `M${left} ${top}V${floor}H${width - right}` }),
      draw('text', { x: (left + width - right) / 2, y: height - 8, 'text-anchor': 'middle' }, view.costTitle),
      draw('text', { transform: `translate(13 ${(top + floor) / 2}) rotate(-90)`, 'text-anchor': 'middle' },
        `${metricOf[view.metric].title} (test)`));
  }

  // where the audio files of the same music lie
  function drawAudio(target, x, view) {
    if (!view.audio) return;
    const at = x(view.audio);
    const share = (at - size.left) / (size.width - size.left - size.right);
    target.append(draw('line', { class: 'audio', x1: at, x2: at, y1: size.top, y2: size.height - size.bottom }),
      draw('text', { class: 'quiet-text', x: at, y: size.top - 6, 'text-anchor': share > 0.7 ? 'end' : share < 0.3 ? 'start' : 'middle' },
        `the audio files: ${cost(view.costName, view.audio)}`));
  }

  function drawFronts(target, x, y, view) {
    const path = (items, height) => items.map((item, i) => {
      const [px, py] = [x(item.cost).toFixed(1), y(height(item)).toFixed(1)];
      return i ? `H${px}V${py}` : `M${px} ${py}`;
    }).join('');
    const items = points.map(({ item }) => item);
    target.append(draw('path', { class: 'front', d: path(items.filter((item) => item.front), (item) => item.mean) }));
    if (view.judged.bounded) target.append(draw('path', { class: 'sure', d: path(items.filter((item) => item.sure), (item) => guaranteed(item, view)) }));
  }

  function drawPublished(target, x, y, view) {
    for (const row of view.published) {
      const [px, py] = [x(row.cost), y(row.value)];
      const mark = draw('path', { class: 'published', d: `M${px - 5} ${py}L${px} ${py - 5}L${px + 5} ${py}L${px} ${py + 5}Z` });
      mark.append(draw('title', {}, `published: ${row.text}`));
      target.append(mark);
    }
  }

  function drawMarks(target, y, view) {
    const { best, answer, bounded } = view.judged;
    const radius = points.length > 400 ? 3 : 4.5;
    const order = [...points].sort((a, b) => rank(a.item) - rank(b.item));
    for (const { item, x, y: py } of order) {
      drawWhisker(target, item, x, y, view);
      target.append(shapeOf(item, x, py, radius));
      if (view.picked === item.row.index) target.append(draw('circle', { class: 'picked', cx: x, cy: py, r: 12 }));
    }
    const at = (one) => points.find(({ item }) => item === one);
    target.append(draw('path', { class: 'best', d: star(at(best).x, at(best).y, 9) }));
    if (bounded) target.append(draw('circle', { class: 'ring', cx: at(answer).x, cy: at(answer).y, r: 11 }));
  }

  // one that leaves the axis is cut there, and an arrow says so
  function drawWhisker(target, item, x, y, view) {
    const ends = whisker(item, view);
    if (!ends) return;
    const kind = kindOf(item) === 'on-front' ? ' of-front' : '';
    const [floor, ceiling] = [size.height - size.bottom, size.top];
    const [from, to] = [Math.min(y(ends[0]), floor), Math.max(y(ends[1]), ceiling)];
    target.append(draw('line', { class: `whisker${kind}`, x1: x, x2: x, y1: from, y2: to }));
    if (y(ends[0]) > floor + 0.5) target.append(draw('path', { class: `goes-on${kind}`, d: `M${x - 4} ${floor - 6}H${x + 4}L${x} ${floor}Z` }));
    if (y(ends[1]) < ceiling - 0.5) target.append(draw('path', { class: `goes-on${kind}`, d: `M${x - 4} ${ceiling + 6}H${x + 4}L${x} ${ceiling}Z` }));
  }

  const kindOf = (item) => {
    if (item.row.undertrained) return 'undertrained';
    return isWorse(item) ? 'worse' : item.front || item.sure ? 'on-front' : 'other';
  };
  const rank = (item) => ({ undertrained: 0, other: 0, worse: 1, 'on-front': 2 })[kindOf(item)];

  // worse ones are triangles, filled on a front; the others circles, light where something cheaper is as good
  function shapeOf(item, x, y, radius) {
    const kind = kindOf(item);
    if (kind === 'undertrained') return draw('path', { class: `mark ${kind}`, d: cross(x, y, radius * 0.8) });
    if (kind !== 'worse') return draw('circle', { class: `mark ${kind}`, cx: x, cy: y, r: kind === 'other' ? radius * 0.8 : radius + 0.5 });
    return draw('path', { class: `mark worse${item.front || item.sure ? ' filled' : ''}`, d: triangle(x, y, radius + 0.5) });
  }

  const cross = (x, y, r) => `M${(x - r).toFixed(1)} ${(y - r).toFixed(1)}l${2 * r} ${2 * r}m0 ${-2 * r}l${-2 * r} ${2 * r}`;

  const triangle = (x, y, r) => `M${(x - r).toFixed(1)} ${(y - r * 0.8).toFixed(1)}H${(x + r).toFixed(1)}L${x.toFixed(1)} ${(y + r).toFixed(1)}Z`;

  function star(x, y, radius) {
    const corner = (k) => {
      const r = k % 2 ? radius * 0.42 : radius;
      const angle = (Math.PI * k) / 5 - Math.PI / 2;
      return `${(x + r * Math.cos(angle)).toFixed(1)} ${(y + r * Math.sin(angle)).toFixed(1)}`;
    };
    return `M${Array.from({ length: 10 }, (_, k) => corner(k)).join('L')}Z`;
  }

  // names beside the marks of the fronts, as many as have a place; the answer's and the best's have one in any case
  function nameFront(target, x, y, view) {
    const { best, answer } = view.judged;
    const first = ({ item }) => (item === answer ? 0 : item === best ? 1 : item.sure ? 2 : 3);
    const wanted = points.filter((point) => first(point) < 3 || point.item.front).sort((a, b) => first(a) - first(b) || a.y - b.y);
    const texts = wanted.map(({ item }) => draw('text', { class: 'name', visibility: 'hidden' }, item.row.label));
    target.append(...texts);
    const names = wanted.map((point, i) => ({ x: point.x, y: point.y, must: first(point) < 2, width: texts[i].getComputedTextLength() + 2 }));
    const places = placeLabels(names, {
      inside: [size.left + 2, size.top, size.width - 2, size.height - size.bottom - 2],
      taken: points.map((point) => { const r = first(point) < 2 ? 11 : 5; return [point.x - r, point.y - r, point.x + r, point.y + r]; }),
      lines: linesOf(x, y, view),
      gap: 13,
    });
    places.forEach((place, i) => {
      if (!place) { texts[i].remove(); return; }
      if (place.leader) texts[i].before(draw('line', { class: 'leader', x1: names[i].x, y1: names[i].y, x2: place.leader[0], y2: place.leader[1] }));
      for (const [key, value] of Object.entries({ x: place.near, y: place.middle + 4, 'text-anchor': place.side < 0 ? 'end' : 'start' })) texts[i].setAttribute(key, value);
      texts[i].removeAttribute('visibility');
    });
  }

  // the pieces of both fronts and the whiskers: names keep off them where they can
  function linesOf(x, y, view) {
    const found = points.filter(({ item }) => whisker(item, view)).map(({ item, x: at }) => { const [a, b] = whisker(item, view); return [at, y(b), at, y(a)]; });
    const add = (items, height) => items.forEach((item, i) => {
      if (!i) return;
      const [from, to] = [items[i - 1], item].map((one) => [x(one.cost), y(height(one))]);
      found.push([from[0], from[1], to[0], from[1]], [to[0], from[1], to[0], to[1]]);
    });
    const items = points.map(({ item }) => item);
    add(items.filter((item) => item.front), (item) => item.mean);
    if (view.judged.bounded) add(items.filter((item) => item.sure), (item) => guaranteed(item, view));
    return found;
  }

  function legendOf(view) {
    const symbol = (...shapes) => draw('svg', { viewBox: '0 0 22 14', 'aria-hidden': 'true' }, ...shapes);
    const has = (kind) => points.some(({ item }) => kindOf(item) === kind);
    const { found, bounded } = view.judged;
    const ring = found ? `cheapest within ${marginText(view.metric, view.margin)}` : 'smallest bound';
    const entries = [
      [symbol(draw('path', { class: 'best', d: star(11, 7, 7) })), 'best mean'],
      bounded && [symbol(draw('circle', { class: 'ring', cx: 11, cy: 7, r: 5.5 })), ring],
      has('on-front') && [symbol(draw('circle', { class: 'mark on-front', cx: 11, cy: 7, r: 5 })), 'on a front'],
      has('worse') && [symbol(draw('path', { class: 'mark worse', d: triangle(11, 7, 5) })), 'shown to be worse (filled: on a front)'],
      has('other') && [symbol(draw('circle', { class: 'mark other', cx: 11, cy: 7, r: 3.6 })), 'others'],
      has('undertrained') && [symbol(draw('path', { class: 'mark undertrained', d: cross(11, 7, 3.6) })), 'undertrained: on no front'],
      bounded && [symbol(draw('path', { class: 'sure', d: 'M1 11H11V3H21' })), 'guaranteed: best mean less the bound'],
      [symbol(draw('path', { class: 'front', d: 'M1 11H11V3H21' })), 'measured front'],
      points.some(({ item }) => whisker(item, view)) && [symbol(draw('line', { class: 'whisker of-front', x1: 11, x2: 11, y1: 1, y2: 13 })), 'interval of the mean (an arrow: it goes on)'],
      view.published.length && [symbol(draw('path', { class: 'published', d: 'M6 7L11 2L16 7L11 12Z' })), 'published, on other data'],
    ];
    return make('ul', { id: 'legend' }, entries.filter(Boolean).map(([icon, text]) => make('li', {}, icon, text)));
  }

  // ---- reading: the nearest mark to the pointer, or the next one by key

  function describe({ item }) {
    const part = item.row.scores[shown.metric];
    const fronts = [item.front && 'measured', item.sure && 'guaranteed'].filter(Boolean).join(' and ');
    return [item.row.label, `${metricOf[shown.metric].title} ${meanAndStd(part)} (n = ${part.n})`,
      `${cost(shown.costName, item.cost)}, ${boundText(item, shown.metric)}${fronts ? `, on the ${fronts} front` : ''}`];
  }

  function show(index, speak) {
    cursor = index;
    const ring = svg && svg.querySelector('.cursor');
    if (index < 0 || !ring) {
      tip.hidden = true;
      if (ring) ring.setAttribute('visibility', 'hidden');
      return;
    }
    const point = points[index];
    ring.setAttribute('cx', point.x);
    ring.setAttribute('cy', point.y);
    ring.setAttribute('visibility', 'visible');
    const [title, ...lines] = describe(point);
    tip.replaceChildren(make('b', {}, title), ...lines.map((line) => make('div', {}, line)));
    tip.hidden = false;
    const box = svg.getBoundingClientRect();
    const ratio = box.width / size.width;
    const x = box.left + point.x * ratio;
    const y = box.top + point.y * ratio;
    const leftward = x + tip.offsetWidth + 24 > document.documentElement.clientWidth;
    tip.style.left = `${window.scrollX + (leftward ? Math.max(4, x - tip.offsetWidth - 14) : x + 14)}px`;
    tip.style.top = `${window.scrollY + Math.max(4, y - tip.offsetHeight - 10)}px`;
    if (speak) reader.textContent = `${index + 1} of ${points.length}: ${[title, ...lines].join('; ')}`;
  }

  function nearest(event) {
    if (!svg) return -1;
    const box = svg.getBoundingClientRect();
    const ratio = size.width / box.width;
    const [x, y] = [(event.clientX - box.left) * ratio, (event.clientY - box.top) * ratio];
    let found = -1;
    let least = 26 * 26;
    points.forEach((point, i) => {
      const distance = (point.x - x) ** 2 + (point.y - y) ** 2;
      if (distance < least) { least = distance; found = i; }
    });
    return found;
  }

  host.addEventListener('pointermove', (event) => { const i = nearest(event); if (i !== cursor) show(i, false); });
  host.addEventListener('pointerleave', () => show(-1, false));
  host.addEventListener('click', (event) => { const i = nearest(event); if (i >= 0) pick(points[i].item.row); });
  host.addEventListener('blur', () => show(-1, false));
  host.addEventListener('keydown', (event) => {
    if (!points.length) return;
    const last = points.length - 1;
    const start = shown.judged.rows.indexOf(shown.judged.answer);
    const next = {
      ArrowRight: cursor < 0 ? start : Math.min(last, cursor + 1), ArrowUp: cursor < 0 ? start : nextFront(1),
      ArrowLeft: cursor < 0 ? start : Math.max(0, cursor - 1), ArrowDown: cursor < 0 ? start : nextFront(-1),
      Home: 0, End: last,
    }[event.key];
    if (next !== undefined) { event.preventDefault(); show(next, true); }
    else if (event.key === 'Enter' && cursor >= 0) { event.preventDefault(); pick(points[cursor].item.row); }
    else if (event.key === 'Escape') show(-1, false);
  });

  function nextFront(step) {
    for (let i = cursor + step; i >= 0 && i < points.length; i += step) if (points[i].item.front || points[i].item.sure) return i;
    return cursor;
  }

  onWidth(host, (width) => { if (shown && width !== size.width) update(shown); });
  return { update };
}
