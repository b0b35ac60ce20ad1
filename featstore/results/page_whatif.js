// What the features of a collection of any size would take: bytes, files, core-hours.

function predicted(row, state) {
  const costs = row.costs;
  const perTrack = state.seconds && costs.bytes_per_hour !== undefined && costs.bytes_per_hour !== null
    ? (costs.bytes_per_hour * state.seconds) / 3600 : costs.bytes_per_track;
  if (perTrack === null || perTrack === undefined) return { bytes: null, files: null, hours: null };
  const stored = costs.bytes_alone / costs.bytes_per_track;
  const longer = costs.bytes_per_track ? perTrack / costs.bytes_per_track : 1;
  const work = costs.seconds_extract;
  const seconds = state.seconds || secondsOf(row);
  const nominal = row.rate && (row.fixed || seconds) ? row.rate * (row.fixed || seconds) : perTrack;
  return {
    bytes: perTrack * state.tracks,
    files: filesOf(nominal, state.tracks, row.fixed || seconds),
    hours: work === null || work === undefined || !stored ? null : ((work / stored) * longer * state.tracks) / 3600,
  };
}

// mean duration of the measured tracks, where the runs tell it
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

function makeWhatIf(host, { changed }) {
  const low = Math.log10(1000);
  const high = Math.log10(10000000);
  const toTracks = (value) => {
    const exact = 10 ** (low + (Number(value) / 400) * (high - low));
    const unit = 10 ** (Math.floor(Math.log10(exact)) - 1);
    return Math.min(10000000, Math.max(1000, Math.round(exact / unit) * unit));
  };
  const toSlider = (tracks) => Math.round(((Math.log10(tracks) - low) / (high - low)) * 400);
  const slider = make('input', { id: 'tracks-slider', type: 'range', min: 0, max: 400, step: 1, value: toSlider(100000) });
  const number = make('input', { id: 'tracks', type: 'number', min: 1000, max: 10000000, step: 1, value: 100000 });
  const duration = make('input', { id: 'seconds', type: 'number', min: 1, max: 36000, step: 'any', placeholder: '' });
  const out = make('div');
  const say = (tracks) => slider.setAttribute('aria-valuetext', `${count(tracks)} tracks`);
  slider.addEventListener('input', () => { number.value = toTracks(slider.value); tell(); });
  number.addEventListener('input', () => { if (number.value >= 1) { slider.value = toSlider(Math.max(1000, number.value)); tell(); } });
  duration.addEventListener('input', () => tell());
  function tell() {
    const tracks = Math.max(1, Number(number.value) || 1000);
    say(tracks);
    changed({ tracks, seconds: Number(duration.value) > 0 ? Number(duration.value) : null });
  }
  say(100000);
  host.append(make('div', { class: 'slider' },
    make('div', {}, make('label', { for: 'tracks-slider' }, '1,000 to 10,000,000 tracks'), slider),
    make('div', {}, make('label', { for: 'tracks' }, 'tracks'), number),
    make('div', {}, make('label', { for: 'seconds' }, 'seconds a track, else as measured'), duration)), out);

  function update(view, state) {
    const { judged, metric } = view;
    const rows = judged.rows.filter((item) => item.front || item === judged.best || item === judged.answer || item.row.index === state.picked);
    const line = (item) => {
      const guess = predicted(item.row, state);
      const notes = [item === judged.best && 'best', item === judged.answer && item !== judged.best && 'cheapest not told apart',
        item.row.index === state.picked && 'chosen'].filter(Boolean).join(', ');
      return make('tr', { class: item.row.index === state.picked ? 'picked' : null },
        make('th', { scope: 'row', class: 'words' }, item.row.label), make('td', { class: 'words' }, notes),
        make('td', {}, meanAndStd(item.row.scores[metric])), make('td', {}, bytes(guess.bytes)),
        make('td', {}, count(guess.files)), make('td', {}, guess.hours === null ? '–' : digits(guess.hours, 3)));
    };
    const measured = rows.length && secondsOf(rows[0].row);
    duration.placeholder = measured ? digits(measured, 3) : '';
    const ratio = rows.map((item) => item.row.costs).find((costs) => costs.ratio_to_audio);
    const audio = ratio ? ` The audio itself would be about ${bytes((predicted(rows.find((item) => item.row.costs === ratio).row, state).bytes) / ratio.ratio_to_audio)}.` : '';
    out.replaceChildren(
      make('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': 'Predictions' }, make('table', {},
        make('caption', {}, `${count(state.tracks)} tracks${state.seconds ? ` of ${state.seconds} s` : ''}: the front, cheapest first.${audio}`),
        make('thead', {}, make('tr', {}, ['configuration', '', `${metricOf[metric].title}, as measured`, 'bytes', 'files', 'core-hours'].map((text, i) => make('th', { scope: 'col', class: i < 2 ? 'words' : null }, text)))),
        make('tbody', {}, rows.map(line)))),
      make('p', { class: 'quiet' }, 'In proportion to the measured runs: bytes and extraction seconds a track (or an hour, when you give a duration); '
        + 'files as a store of this feature alone cuts its shards, about 256 MiB each. Scores are those measured, not predicted: more tracks may change them.'));
  }

  return { update };
}
