// Clips: sound, and beside it what features keep, with Hz, seconds and a bar of colours; a line follows the sound.

const MAGMA = [[0, 0, 4], [28, 16, 68], [79, 18, 123], [129, 37, 129], [181, 54, 122], [229, 80, 100], [251, 135, 97], [254, 194, 135], [252, 253, 191]];

function magma(code) {
  const place = (code / 255) * (MAGMA.length - 1);
  const low = Math.min(MAGMA.length - 2, Math.floor(place));
  return MAGMA[low].map((from, i) => Math.round(from + (MAGMA[low + 1][i] - from) * (place - low)));
}

// codes row by row, the first row at the bottom
function painted(codes, rows, columns) {
  const canvas = make('canvas', { width: columns, height: rows });
  const context = canvas.getContext('2d');
  const image = context.createImageData(columns, rows);
  for (let row = 0; row < rows; row += 1) {
    for (let column = 0; column < columns; column += 1) {
      image.data.set([...magma(codes[row * columns + column]), 255], 4 * ((rows - 1 - row) * columns + column));
    }
  }
  context.putImageData(image, 0, 0);
  return canvas.toDataURL();
}

function showClips(host) {
  const bar = painted(Uint8Array.from({ length: 256 }, (_, i) => i), 256, 1);
  for (const clip of data.clips) {
    const audio = make('audio', { controls: true, preload: 'metadata', src: clip.audio, 'aria-label': `${clip.track}, ${digits(clip.seconds, 2)} s` });
    const pictures = clip.pictures.map((picture) => spectrum(picture, clip, audio, bar));
    const follow = () => { for (const { at } of pictures) at(audio.currentTime); if (!audio.paused) requestAnimationFrame(follow); };
    for (const event of ['play', 'seeked', 'timeupdate']) audio.addEventListener(event, follow);
    host.append(make('figure', { class: 'clip' },
      make('figcaption', {}, make('b', {}, clip.labels.join(', ') || clip.track), make('span', { class: 'quiet' }, ` ${clip.labels.length ? clip.track : ''}, from ${digits(clip.start_s, 3)} s`)),
      audio, pictures.map(({ element }) => element)));
  }
}

function spectrum(picture, clip, audio, bar) {
  const image = painted(Uint8Array.from(atob(picture.values), (c) => c.charCodeAt(0)), picture.bands, picture.frames);
  const element = make('div', { class: 'spectrum' });
  let line = null;
  let toX = () => 0;

  function drawn(width) {
    const [height, left, right, top, bottom] = [150, 56, 62, 20, 34];
    const floor = height - bottom;
    toX = (seconds) => left + (seconds / clip.seconds) * (width - left - right);
    const toY = (place) => floor - (place / picture.bands) * (floor - top);
    const from = picture.lead_s - picture.step_s / 2;
    const svg = draw('svg', { viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': `${picture.label}: ${picture.bands} bands over ${digits(clip.seconds, 2)} s` });
    // frames at both ends reach beyond the clip: an svg of its own cuts them off at the axes
    const plot = draw('svg', { x: left, y: top, width: width - left - right, height: floor - top });
    plot.append(draw('image', { href: image, x: toX(from) - left, y: 0, width: toX(picture.frames * picture.step_s) - toX(0), height: floor - top, preserveAspectRatio: 'none' }));
    svg.append(draw('text', { x: left, y: 14 }, [picture.label, picture.rate_bps && rate(picture.rate_bps)].filter(Boolean).join(': ')), plot);
    for (const [place, text] of picture.ticks) {
      svg.append(draw('line', { class: 'axis', x1: left - 4, x2: left, y1: toY(place), y2: toY(place) }),
        draw('text', { class: 'quiet-text', x: left - 6, y: toY(place) + 4, 'text-anchor': 'end' }, text));
    }
    for (const second of ticksOf(0, clip.seconds, false)) {
      svg.append(draw('line', { class: 'axis', x1: toX(second), x2: toX(second), y1: floor, y2: floor + 4 }),
        draw('text', { class: 'quiet-text', x: toX(second), y: floor + 16, 'text-anchor': 'middle' }, digits(second, 2)));
    }
    svg.append(draw('text', { class: 'quiet-text', x: (left + width - right) / 2, y: height - 4, 'text-anchor': 'middle' }, 'seconds'),
      draw('text', { class: 'quiet-text', transform: `translate(10 ${(top + floor) / 2}) rotate(-90)`, 'text-anchor': 'middle' }, 'Hz'),
      draw('image', { href: bar, x: width - right + 10, y: top, width: 9, height: floor - top, preserveAspectRatio: 'none' }));
    const names = [[picture.high, top + 9], [picture.low, floor]];
    for (const [value, y] of names) svg.append(draw('text', { class: 'quiet-text', x: width - right + 23, y }, digits(value, 2)));
    if (picture.unit) svg.append(draw('text', { class: 'quiet-text', x: width - right + 23, y: (top + floor) / 2 + 4 }, picture.unit));
    line = draw('line', { class: 'playhead', x1: toX(0), x2: toX(0), y1: top, y2: floor });
    svg.append(line);
    element.replaceChildren(svg);
    at(audio.currentTime);
  }

  function at(seconds) {
    if (!line) return;
    const x = toX(Math.min(seconds, clip.seconds));
    line.setAttribute('x1', x);
    line.setAttribute('x2', x);
  }

  element.addEventListener('click', (event) => {
    const box = element.getBoundingClientRect();
    const share = (event.clientX - box.left - toX(0)) / (toX(clip.seconds) - toX(0));
    audio.currentTime = Math.min(Math.max(0, share), 1) * clip.seconds;
    audio.play();
  });
  onWidth(element, drawn);
  return { element, at };
}
