// Everything about one configuration: its runs, settings, learning curves, class scores, confusion.

const LINES = ['--blue', '--orange', '--grey', '--ink'];
const lineColour = (i) => `var(${LINES[i % LINES.length]})`;

function makeDetails(host, { closed }) {
  function close() {
    host.hidden = true;
    host.replaceChildren();
    closed();
  }

  function open(row, state) {
    const heading = make('h2', { id: 'details-title', tabindex: -1 }, row.label);
    const shut = make('button', { type: 'button', onclick: close }, 'Close');
    const known = row.runs.filter((run) => data.details.runs[run]);
    host.replaceChildren(
      make('div', { class: 'head' }, heading, shut),
      make('div', { class: 'two wide' }, make('div', {}, facts(row, state)), make('div', {}, settings(row))),
      runsTable(row),
      known.length ? inside(known) : make('p', { class: 'quiet' },
        'The page holds no curves or predictions of these runs; write it with a higher --details to see them.'),
    );
    host.hidden = false;
    heading.focus({ preventScroll: true });
    host.scrollIntoView({ block: 'nearest' });
  }

  host.addEventListener('keydown', (event) => { if (event.key === 'Escape') close(); });
  return { open, close };
}

function facts(row, state) {
  const pairs = [['Data set', row.dataset], ['Model', row.model], ['Feature', row.feature]];
  for (const metric of data.metrics) {
    const part = row.scores[metric.name];
    if (!part.n) continue;
    const range = part.low === null ? '' : ` [${score(part.low)}, ${score(part.high)}]`;
    pairs.push([metric.title, `${meanAndStd(part)}${range} (n = ${part.n})`]);
  }
  for (const { name, title } of data.costs) pairs.push([title, cost(name, row.costs[name])]);
  pairs.push(...(data.remarks[row.index] || []));
  pairs.push([`bytes for ${count(state.tracks)} tracks`, bytes(predicted(row, state).bytes)]);
  return make('dl', {}, pairs.map(([name, value]) => [make('dt', {}, name), make('dd', {}, breakable(value))]));
}

// long names break after their commas and not within words
const breakable = (text) => String(text).split(/(?<=,)(?=\S)/).flatMap((part, i) => (i ? [make('wbr'), part] : [part]));

function settings(row) {
  const entries = Object.entries(data.runs.settings).map(([key, coded]) => {
    const values = [...new Set(row.runs.map((run) => coded.texts[coded.codes[run]]))];
    return [key, values];
  }).filter(([key, values]) => values.some(Boolean) && key !== 'feature');
  if (!entries.length) return make('p', { class: 'quiet' }, 'The runs recorded no settings.');
  const text = (values) => (values.length > 1 ? values.map((v) => v || 'none').join(', ') : values[0]);
  return make('details', { open: entries.length <= 16 }, make('summary', {}, `Settings (${entries.length})`),
    make('dl', {}, entries.map(([key, values]) => [make('dt', {}, key), make('dd', {}, breakable(text(values)))])));
}

function runsTable(row) {
  const shown = Object.keys(data.runs.scores).filter((name) => row.runs.some((run) => data.runs.scores[name][run] !== null));
  const folds = row.runs.some((run) => data.runs.fold[run] !== null);
  const heads = ['run', 'seed', ...(folds ? ['fold'] : []), ...shown.map((name) => name.replace('.', ' ')), 'training', 'finished', 'folder'];
  const finished = (run) => data.runs.finished.texts[data.runs.finished.codes[run]].replace('T', ' ');
  const folder = (run) => `${data.runs.path.texts[data.runs.path.codes[run]]}/${data.runs.folder[run]}`;
  const value = (item) => (item === null || item === undefined ? '–' : String(item));
  return scrolling('Runs of this configuration', make('table', {},
    make('caption', {}, `${row.runs.length} run${row.runs.length === 1 ? '' : 's'}`),
    make('thead', {}, make('tr', {}, heads.map((head, i) => make('th', { scope: 'col', class: i ? null : 'words' }, head)))),
    make('tbody', {}, row.runs.map((run) => make('tr', {},
      make('th', { scope: 'row', class: 'words' }, data.runs.id[run]), make('td', {}, value(data.runs.seed[run])),
      folds ? make('td', {}, value(data.runs.fold[run])) : null,
      shown.map((name) => make('td', {}, score(data.runs.scores[name][run]))),
      make('td', {}, seconds(data.runs.seconds_train[run])), make('td', {}, finished(run)), make('td', { class: 'words dim' }, folder(run)))))));
}

function inside(known) {
  const area = make('div', { class: 'two' });
  const select = make('select', { id: 'details-run', onchange: () => show() },
    make('option', { value: 'all' }, known.length > 1 ? `all ${known.length} runs` : data.runs.id[known[0]]),
    known.length > 1 ? known.map((run) => make('option', { value: run }, data.runs.id[run])) : null);
  function show() {
    const all = select.value === 'all';
    const found = all ? data.details.classes[data.runs.configuration[known[0]]] : data.details.runs[select.value].classes;
    area.replaceChildren(make('div', {}, ...curves(all ? known : [Number(select.value)])), make('div', {}, ...classes(found)));
  }
  show();
  return make('div', {}, make('div', { class: 'field check' }, make('label', { for: 'details-run' }, 'Show'), make('div', {}, select)), area);
}

// ---- learning curves: a line a run, validation solid, training dashed

function curves(runs) {
  const names = new Set(runs.flatMap((run) => Object.keys(data.details.runs[run].curves || {})));
  const quantities = [...new Set([...names].map((name) => name.split('.').slice(1).join('.')))]
    .filter((name) => names.has(`valid.${name}`) || names.has(`train.${name}`));
  if (!quantities.length) return [make('p', { class: 'quiet' }, 'No learning curves.')];
  const order = (name) => (name === 'loss' ? 0 : metricOf[name] ? 1 : 2);
  quantities.sort((a, b) => order(a) - order(b));
  return [make('h3', {}, 'Learning curves'), ...quantities.slice(0, 4).map((name) => curve(runs, name)),
    make('p', { class: 'quiet' }, 'Solid: validation. Dashed: training. A line a run.')];
}

function curve(runs, quantity) {
  const size = { width: 420, height: 170, left: 46, right: 8, top: 8, bottom: 30 };
  const lines = runs.flatMap((run, i) => ['valid', 'train'].map((split) => [i, split, (data.details.runs[run].curves || {})[`${split}.${quantity}`]]))
    .filter(([, , line]) => line);
  const y = scaleOf(lines.flatMap(([, , [, values]]) => values.filter((v) => v !== null)), size.height - size.bottom, size.top, false);
  const last = Math.max(...lines.map(([, , [epochs]]) => epochs[epochs.length - 1]));
  const x = (epoch) => size.left + (last > 1 ? (epoch - 1) / (last - 1) : 0.5) * (size.width - size.left - size.right);
  const title = (metricOf[quantity] || { title: quantity }).title;
  const svg = draw('svg', { class: 'curves', viewBox: `0 0 ${size.width} ${size.height}`, role: 'img', 'aria-label': `${title} over ${last} epochs, ${runs.length} runs` });
  for (const value of y.ticks) {
    svg.append(draw('line', { class: 'grid', x1: size.left, x2: size.width - size.right, y1: y(value), y2: y(value) }),
      draw('text', { x: size.left - 6, y: y(value) + 4, 'text-anchor': 'end', class: 'quiet-text' }, y.text(value)));
  }
  for (const epoch of ticksOf(1, Math.max(2, last), false).filter((e) => Number.isInteger(e) && e >= 1 && e <= last)) {
    svg.append(draw('text', { x: x(epoch), y: size.height - 14, 'text-anchor': 'middle', class: 'quiet-text' }, String(epoch)));
  }
  svg.append(draw('text', { x: size.width - size.right, y: size.height - 1, 'text-anchor': 'end', class: 'quiet-text' }, 'epoch'),
    draw('text', { x: size.left, y: size.height - 1 }, title));
  for (const [i, split, [epochs, values]] of lines) {
    const path = epochs.map((epoch, k) => (values[k] === null ? null : `${x(epoch).toFixed(1)} ${y(values[k]).toFixed(1)}`)).filter(Boolean);
    const line = draw('path', { class: `curve ${split}`, d: `M${path.join('L')}` });
    line.style.stroke = lineColour(i);
    svg.append(line);
  }
  return svg;
}

// ---- classes

function classes(found) {
  if (!found) return [make('p', { class: 'quiet' }, 'The runs kept no predictions: no class scores, no confusion matrix.')];
  const { names, positives, shown: metric } = found;
  const rows = names.map((name, k) => {
    const [mean, std] = found.scores[k];
    return { name, mean, std, positives: positives[k] };
  }).sort((a, b) => (b.mean ?? -1) - (a.mean ?? -1));
  const label = data.classTitles[metric];
  const bar = (value) => draw('svg', { viewBox: '0 0 144 12', 'aria-hidden': 'true' },
    draw('rect', { class: 'band', width: 144, height: 12 }), draw('rect', { class: 'same', width: 144 * (value ?? 0), height: 12 }));
  const table = scrolling('Scores of classes', make('table', {}, make('caption', {}, `${label} of each class on the test tracks, best first`),
    make('thead', {}, make('tr', {}, make('th', { scope: 'col', class: 'words' }, 'class'), make('th', { scope: 'col' }, label),
      make('th', { scope: 'col' }, 'tracks'), make('td', {}))),
    make('tbody', {}, rows.map((row) => make('tr', {}, make('th', { scope: 'row', class: 'words' }, row.name),
      make('td', {}, row.mean === null ? 'undefined' : meanAndStd(row)), make('td', {}, count(row.positives)), make('td', { class: 'bar' }, bar(row.mean)))))));
  const parts = [make('h3', {}, 'Classes'), table];
  return found.confusion ? [...parts, ...confusionTable(names, found.confusion, found.runs)] : parts;
}

function confusionTable(names, sums, runs) {
  return [make('h3', {}, 'Confusion'), scrolling('Confusion matrix', make('table', { class: 'matrix' },
    make('caption', {}, `Rows: true class; columns: answer; test tracks${runs > 1 ? `, summed over ${runs} runs` : ''}.`),
    make('thead', {}, make('tr', {}, make('td', {}), names.map((name) => make('th', { scope: 'col', title: name }, name)))),
    make('tbody', {}, sums.map((line, i) => {
      const total = line.reduce((a, b) => a + b, 0);
      return make('tr', {}, make('th', { scope: 'row', title: names[i] }, names[i]), line.map((value, j) => make('td', {
        class: `heat${total ? Math.min(5, Math.ceil((5 * value) / total)) : 0}${i === j ? ' right' : ''}`, title: `${names[i]} answered as ${names[j]}: ${value}`,
      }, String(value))));
    }))))];
}
