// What the features of a collection of any size would take: bytes, files, and what fits on a disk. Hours are
// not among them: only featstore plan forecasts those, from a timed sample on the machine that will do the work.

function predicted(row, state) {
  const costs = row.costs;
  const perTrack = state.seconds && costs.bytes_per_hour !== undefined && costs.bytes_per_hour !== null
    ? (costs.bytes_per_hour * state.seconds) / 3600 : costs.bytes_per_track;
  if (perTrack === null || perTrack === undefined) return { bytes: null, files: null };
  const seconds = state.seconds || secondsOf(row);
  const nominal = row.rate && (row.fixed || seconds) ? row.rate * (row.fixed || seconds) : perTrack;
  return {
    bytes: perTrack * state.tracks,
    files: filesOf(nominal, state.tracks, row.fixed || seconds),
  };
}

// mean duration of the measured tracks, where the runs record it
function secondsOf(row) {
  const { bytes_per_track: track, bytes_per_hour: hour } = row.costs;
  return track && hour ? (3600 * track) / hour : null;
}

// as a store cuts itself: shards by bytes and by number, a file of values and of lengths each, and records, which many
// shards have in one file
function filesOf(perTrack, tracks, duration) {
  const rules = data.store;
  const wanted = Math.max(Math.min(Math.floor(rules.shard_bytes / Math.max(1, perTrack)), Math.ceil(tracks / 16)),
    Math.floor(tracks / rules.most_shards), rules.least);
  const shards = Math.ceil(tracks / Math.min(wanted, rules.most));
  const slabs = Math.max(1, Math.ceil((duration || 0) / rules.slab_seconds));
  return shards * (slabs + 1) + (shards >= rules.pack_from ? 1 : shards) + rules.store_files + 3; // three of the array
}

function makeWhatIf(controls, host, { changed }) {
  const low = Math.log10(1000);
  const high = Math.log10(10000000);
  const toTracks = (value) => {
    const exact = 10 ** (low + (Number(value) / 400) * (high - low));
    const unit = 10 ** (Math.floor(Math.log10(exact)) - 1);
    return Math.min(10000000, Math.max(1000, Math.round(exact / unit) * unit));
  };
  const toSlider = (tracks) => Math.round(((Math.log10(tracks) - low) / (high - low)) * 400);
  const slider = make('input', { id: 'tracks-slider', type: 'range', min: 0, max: 400, step: 1 });
  const number = make('input', { id: 'tracks', type: 'number', min: 1000, max: 10000000, step: 1 });
  const minutes = make('input', { id: 'minutes', type: 'number', min: 0.05, max: 600, step: 'any' });
  const budget = make('input', { id: 'budget', type: 'number', min: 0, step: 'any', placeholder: 'any' });
  const said = make('div', { id: 'collection-answer', 'aria-live': 'polite' });
  const say = (tracks) => slider.setAttribute('aria-valuetext', `${count(tracks)} tracks`);
  slider.addEventListener('input', () => { number.value = toTracks(slider.value); tell(); });
  number.addEventListener('input', () => { if (number.value >= 1) { slider.value = toSlider(Math.max(1000, number.value)); tell(); } });
  minutes.addEventListener('input', () => tell());
  budget.addEventListener('input', () => tell());
  function tell() {
    const tracks = Math.max(1, Number(number.value) || 1000);
    say(tracks);
    changed({ tracks, seconds: Number(minutes.value) > 0 ? 60 * Number(minutes.value) : null,
      budget: Number(budget.value) > 0 ? 1e9 * Number(budget.value) : null });
  }
  function set(size) {
    number.value = size.tracks;
    slider.value = toSlider(Math.min(10000000, Math.max(1000, size.tracks)));
    minutes.value = size.seconds === null ? '' : Number((size.seconds / 60).toPrecision(6));
    budget.value = size.budget ? size.budget / 1e9 : '';
    say(size.tracks);
  }
  const field = (input, text) => make('div', {}, make('label', { for: input.id }, text), input);
  controls.append(
    make('div', { class: 'wide' }, make('label', { for: 'tracks-slider' }, '1,000 to 10,000,000 tracks'), slider),
    make('div', { class: 'three' }, field(number, 'tracks'), field(minutes, 'minutes each'), field(budget, 'budget, GB')), said);

  // the answer for this collection, and what fits
  function drawSaid({ judged, metric }, state) {
    const line = (text, item, rest) => make('p', {}, text, link(item), rest);
    const size = (item) => bytes(predicted(item.row, state).bytes);
    const known = judged.rows.filter((item) => predicted(item.row, state).bytes !== null);
    if (!judged.answer || !known.length) { said.replaceChildren(make('p', { class: 'quiet' }, 'These runs do not record bytes per track.')); return; }
    const { answer, best } = judged;
    const lines = [make('p', {}, make('b', {}, size(answer)), ' for ', link(answer), answer === best ? '.' : `; ${size(best)} for the best mean.`)];
    if (state.budget) {
      const fits = known.filter((item) => predicted(item.row, state).bytes <= state.budget);
      const least = fits.length && fits.reduce((a, b) => ((judged.bounded ? b.bound.most < a.bound.most : b.bound.loss < a.bound.loss) ? b : a));
      lines.push(least ? line(`In ${bytes(state.budget)}: `, least, ` (${size(least)}), ${boundText(least, metric)}.`)
        : line(`Nothing fits in ${bytes(state.budget)}. The smallest: `, known.reduce((a, b) => (predicted(b.row, state).bytes < predicted(a.row, state).bytes ? b : a)), '.'));
    }
    said.replaceChildren(...lines);
  }

  function update(view, state) {
    const { judged, metric } = view;
    drawSaid(view, state);
    const rows = judged.rows.filter((item) => item.front || item.sure || item === judged.best || item === judged.answer || item.row.index === state.picked);
    const line = (item) => {
      const guess = predicted(item.row, state);
      const notes = [item === judged.best && 'best', item === judged.answer && item !== judged.best && (judged.found ? 'good enough' : 'smallest bound'),
        item.row.index === state.picked && 'chosen'].filter(Boolean).join(', ');
      return make('tr', { class: item.row.index === state.picked ? 'picked' : null },
        make('th', { scope: 'row', class: 'words' }, item.row.label), make('td', { class: 'words' }, notes),
        make('td', {}, item.bound.most === null ? '–' : atMost(metric, item.bound.most)), make('td', {}, bytes(guess.bytes)),
        make('td', {}, count(guess.files)));
    };
    const ratio = rows.map((item) => item.row.costs).find((costs) => costs.ratio_to_audio);
    const audio = ratio ? ` The audio itself would be about ${bytes((predicted(rows.find((item) => item.row.costs === ratio).row, state).bytes) / ratio.ratio_to_audio)}.` : '';
    host.replaceChildren(
      scrolling('Predictions', make('table', {},
        make('caption', {}, `${count(state.tracks)} tracks${state.seconds ? ` of ${digits(state.seconds / 60, 3)} min` : ''}: both fronts, cheapest first.${audio}`),
        make('thead', {}, make('tr', {}, ['configuration', '', `at most ${sideOf(metric)} the best`, 'bytes', 'files'].map((text, i) => make('th', { scope: 'col', class: i < 2 ? 'words' : null }, text)))),
        make('tbody', {}, rows.map(line)))),
      make('p', { class: 'quiet' }, 'Bytes in proportion to the measured runs, per second of audio (per track where no duration is given); '
        + 'files as a store of this feature alone cuts its shards, about 256 MiB each; featstore plan --tracks N forecasts the core-hours. Scores are those measured, not predicted: more tracks may change them.'));
  }

  return { update, set };
}
