// State, filters, and what follows from them.

const VIRTUAL = 'bytes_collection';
const state = { picked: null };

const chart = makeChart(byId('chart'), { reader: byId('chart-reader'), pick: (row) => pickRow(row) });
const table = makeTable(byId('table'), { pick: (row) => pickRow(row) });
const details = makeDetails(byId('details'), { closed: () => unpick() });
const whatif = makeWhatIf(byId('collection'), byId('whatif'), { changed: (size) => { Object.assign(state, size); drawSize(); } });
let cameFrom = null;
let view = null;

function costOf(row) { return state.cost === VIRTUAL ? predicted(row, state).bytes : row.costs[state.cost]; }

function matches(row) {
  if (row.dataset !== state.dataset) return false;
  for (const [name, values] of Object.entries(state.off)) if (values.has(row[name])) return false;
  return state.search.split(/\s+/).every((word) => row.text.includes(word));
}

function render() {
  const rows = configurations.filter(matches);
  const judged = judge(rows, state.metric, costOf, state.margin);
  view = { judged, metric: state.metric, costName: state.cost === VIRTUAL ? 'bytes' : state.cost,
    costTitle: state.cost === VIRTUAL ? `bytes for ${count(state.tracks)} tracks` : costTitle[state.cost],
    published: state.published ? publishedPoints() : [], picked: state.picked, margin: state.margin, audio: audioCost(rows) };
  const verdict = new Map(judged.rows.map((item) => [item.row.index, item]));
  const all = configurations.filter((row) => row.dataset === state.dataset).length;
  byId('count').textContent = `${count(rows.length)} of ${count(all)} configurations`;
  const nowhere = state.published && !view.published.length
    ? ' Published numbers of this score can be shown against GMACs, bytes per track and the collection, where they have them.' : '';
  byId('statement').textContent = judged.statement + nowhere;
  drawAnswer(judged);
  chart.update(view);
  table.update({ rows, columns: columnsOf(verdict), picked: state.picked, about: `${count(rows.length)} configurations on ${state.dataset}; a click on a name opens its runs.` });
  byId('chosen').textContent = [state.dataset, metricOf[state.metric].title, view.costTitle, byId('count').textContent].join(' · ');
  whatif.update(view, state);
  writeLink();
}

// what depends on the size of the collection alone
function drawSize() {
  if (state.cost === VIRTUAL) { render(); return; }
  whatif.update(view, state);
  writeLink();
}

// the address follows a little later: browsers limit how often it may change
let writing = null;
function writeLink() {
  const opened = state.picked === null ? null : configurations[state.picked].label;
  const link = linkOf(state, opened, datasetNames()[0]);
  byId('here').setAttribute('href', link);
  clearTimeout(writing);
  writing = setTimeout(() => { if (location.hash !== link && location.hash + link !== '#') history.replaceState(null, '', link); }, 300);
}

// the state that the address says, drawn from the beginning
function follow() {
  const { opened, ...said } = readLink();
  Object.assign(state, said, { picked: null });
  whatif.set(state);
  drawControls();
  render();
  const row = opened && configurations.find(({ dataset, label }) => dataset === state.dataset && label === opened);
  if (row) pickRow(row); else if (!byId('details').hidden) details.close();
}

// what the audio files of the same music would cost on the axis, where it is one of bytes
function audioCost(rows) {
  const known = rows.find((row) => row.costs.ratio_to_audio && costOf(row));
  if (state.cost === 'ratio_to_audio') return known ? 1 : null;
  if (!known || !(state.cost === VIRTUAL || state.cost === 'rate_bps' || state.cost.startsWith('bytes'))) return null;
  return (state.cost === 'bytes_added' ? known.costs.bytes_alone : costOf(known)) / known.costs.ratio_to_audio;
}

const link = (item) => make('button', { type: 'button', class: 'link', onclick: () => pickRow(item.row) }, item.row.label);

function drawAnswer(judged) {
  const host = byId('answer');
  if (!judged.best) {
    host.replaceChildren(make('p', {}, 'No configuration has both this score and this cost.'));
    return;
  }
  const { answer, best, found, bounded } = judged;
  const { metric } = state;
  const one = judged.rows.length === 1;
  const words = !bounded ? 'Nothing can be called good enough yet. Best mean: ' : found || one ? 'Keep ' : `Nothing is known to be within ${marginText(metric, state.margin)} yet. Smallest bound: `;
  host.replaceChildren(
    make('p', { class: 'big' }, words, link(answer)),
    make('div', { class: 'facts' }, ...factsOf(answer, best, bounded)),
    make('p', {}, 'Accept a loss of at most ', marginSelect(judged), ' (95 %).', bounded ? '' : ' Train every configuration with at least two seeds: without them the noise of training is unknown.'),
    ...(bounded ? [make('ul', { class: 'also' }, alsoOf(judged).map((parts) => make('li', {}, ...parts)))] : []));
}

function factsOf(item, best, bounded) {
  const { costs } = item.row;
  const fact = (value, text) => make('div', { class: 'fact' }, make('b', {}, value), make('span', {}, text));
  const part = item.row.scores[state.metric];
  const size = view.costName.startsWith('bytes') || ['rate_bps', 'ratio_to_audio'].includes(view.costName);
  const share = best !== item && best.cost ? `, ${percent(item.cost / best.cost)} of the best` : '';
  return [
    bounded && fact(item.bound.most === 0 ? '0' : `≤ ${atMost(state.metric, item.bound.most)}`, `${sideOf(state.metric)} the best, at 95 %`),
    size && costs.rate_bps && fact(rate(costs.rate_bps), 'of audio'),
    fact(cost(view.costName, item.cost), (size && view.costName === 'bytes_alone' ? 'for this set' : view.costTitle) + share),
    fact(meanAndStd(part), `${metricOf[state.metric].title} (n = ${part.n})`),
  ].filter(Boolean);
}

function marginSelect(judged) {
  const select = make('select', { id: 'margin', 'aria-label': 'loss that is accepted', onchange: () => { state.margin = Number(select.value); render(); byId('margin').focus(); } },
    data.margins.map((value) => make('option', { value, selected: value === state.margin }, marginText(state.metric, value))));
  return select;
}

// what else the bounds say: other margins, what is worse, what would decide
function alsoOf(judged) {
  const { metric } = state;
  const others = data.margins.filter((margin) => margin !== state.margin).map((margin) => {
    const item = judged.rows.find(({ row, bound }) => !row.undertrained && bound.most <= margin * (1 + 1e-9));
    return [`Within ${marginText(metric, margin)}: `, item ? link(item) : 'none yet', item ? ` (${cost(view.costName, item.cost)})` : ''];
  });
  const worse = judged.rows.filter(isWorse).sort((a, b) => b.bound.least - a.bound.least);
  const told = worse.length ? ['Shown to be worse: ', ...worse.slice(0, 2).flatMap((item, i) => [i ? '; ' : '', link(item), ` by at least ${atLeast(metric, item.bound.least)}`]),
    worse.length > 2 ? `; ${count(worse.length)} in all` : ''] : ['None is shown to be worse than the best.'];
  const decide = state.cost === 'bytes_alone' && ((data.bounds[metric].decide[state.dataset] ?? {})[String(state.margin)]);
  return [...others, told, ...(decide ? [[decide]] : [])];
}

function columnsOf(verdict) {
  const has = (name) => configurations.some((row) => row.dataset === state.dataset && row.scores[name].n);
  const others = data.metrics.filter(({ name }) => name !== state.metric && name !== 'loss' && has(name));
  const shown = ['rate_bps', 'bytes_alone', 'ratio_to_audio', 'bytes_added', 'gmacs', 'seconds_train'].filter((name) => costTitle[name]);
  const short = { rate_bps: 'bit rate', bytes_alone: 'alone', bytes_added: 'added', ratio_to_audio: 'of audio', gmacs: 'GMACs', seconds_train: 'training' };
  const of = (row) => verdict.get(row.index);
  const bound = (row, part) => (of(row) ? of(row).bound[part] : null);
  const unit = isShare(state.metric) ? 'points ' : '';
  const points = (value, text) => (value === null ? '' : isShare(state.metric) ? text(value) : digits(value, 3));
  const fronts = (row) => (of(row) ? [of(row).front && 'measured', of(row).sure && 'guaranteed'].filter(Boolean).join(' and ') : '');
  const outside = (row) => row.outside_data;
  const seen = configurations.some((row) => row.dataset === state.dataset && outside(row) && outside(row) !== 'none')
    ? [{ key: 'outside_data', title: 'outside data', words: true, down: false, value: outside, text: outside }] : [];
  const interval = (part) => (part.low === null ? '' : ` [${score(part.low)}, ${score(part.high)}]`);
  return [
    { key: 'configuration', title: 'configuration', words: true, down: false, value: (row) => row.label, text: (row) => row.label },
    { key: state.metric, title: metricOf[state.metric].title, down: !metricOf[state.metric].lower, value: (row) => row.scores[state.metric].mean,
      text: (row) => meanAndStd(row.scores[state.metric]) + interval(row.scores[state.metric]) },
    { key: 'n', title: 'n', value: (row) => row.scores[state.metric].n, text: (row) => String(row.scores[state.metric].n) },
    { key: 'at_most', title: `at most ${unit}${sideOf(state.metric)} the best`, down: false, value: (row) => bound(row, 'most'), text: (row) => points(bound(row, 'most'), up) },
    { key: 'at_least', title: 'at least', value: (row) => bound(row, 'least') || null, text: (row) => (bound(row, 'least') > 0 ? points(bound(row, 'least'), down) : '') },
    ...shown.map((name) => ({ key: name, title: short[name], down: false, value: (row) => row.costs[name], text: (row) => cost(name, row.costs[name]) })),
    ...seen,
    { key: 'front', title: 'front', words: true, down: false, value: fronts, text: fronts },
    ...others.map(({ name, title, lower }) => ({ key: name, title, down: !lower, value: (row) => row.scores[name].mean, text: (row) => meanAndStd(row.scores[name]) })),
    { key: 'standing', title: 'against the best', words: true, down: false, value: (row) => bound(row, 'standing'), text: (row) => bound(row, 'standing') ?? '' },
  ];
}

function pickRow(row) {
  if (!byId('details').contains(document.activeElement)) cameFrom = document.activeElement;
  state.picked = row.index;
  view.picked = row.index;
  chart.update(view);
  table.mark(row.index);
  whatif.update(view, state);
  details.open(row, state);
  writeLink();
}

function unpick() {
  state.picked = null;
  view.picked = null;
  chart.update(view);
  table.mark(null);
  whatif.update(view, state);
  if (cameFrom && cameFrom.isConnected) cameFrom.focus();
  writeLink();
}

// ---- published numbers: beside, never among the measured ones

const reference = (() => {
  const source = data.reference.rows;
  const texts = {};
  for (const name of ['source', 'place', 'kind', 'dataset', 'model', 'representation', 'scale', 'metric', 'hop', 'detail', 'note']) texts[name] = column(source[name]);
  return Array.from({ length: source.count }, (_, i) => {
    const row = {};
    for (const name in texts) row[name] = texts[name][i];
    for (const name of ['sample_rate', 'n_mels', 'bytes_per_clip', 'gmacs', 'value', 'spread', 'n']) row[name] = source[name][i];
    row.what = [row.model, row.sample_rate && `${row.sample_rate / 1000} kHz`, row.n_mels && `${row.n_mels} mels`, row.hop,
      { log10_1p: 'log', db: 'dB' }[row.scale] || row.scale, row.detail].filter(Boolean).join(', ');
    return row;
  });
})();

function publishedPoints() {
  const field = { bytes_per_track: 'bytes_per_clip', gmacs: 'gmacs' }[state.cost];
  const size = (row) => (state.cost === VIRTUAL ? row.bytes_per_clip && row.bytes_per_clip * state.tracks : row[field]);
  return reference.filter((row) => row.metric === state.metric && size(row) !== null && size(row) !== undefined)
    .map((row) => ({ cost: size(row), value: row.value, text: `${row.what} on ${row.dataset}: ${row.value} (${row.source})` }));
}

function drawReference() {
  const papers = Object.keys(data.reference.notes);
  byId('reference').append(make('p', { class: 'quiet' }, 'Numbers that others published, on their own data. No mean, front or test on this page contains them.'),
    ...papers.map((paper) => {
      const rows = reference.filter((row) => row.source === paper);
      const heads = ['data set', 'what', 'metric', 'value', 'n', 'kind', 'where', 'note'];
      return make('details', {}, make('summary', {}, `${paper} (${rows.length} numbers)`), make('p', { class: 'quiet' }, data.reference.notes[paper]),
        scrolling(`Published in ${paper}`, make('table', {},
          make('thead', {}, make('tr', {}, heads.map((head) => make('th', { scope: 'col', class: 'words' }, head)))),
          make('tbody', {}, rows.map((row) => make('tr', {}, [row.dataset, row.what, row.metric].map((text, i) => make('td', { class: i === 1 ? 'words wrap' : 'words' }, text)),
            make('td', {}, row.value.toFixed(4) + (row.spread === null ? '' : ` ± ${row.spread.toFixed(4)}`)), make('td', {}, row.n === null ? '' : String(row.n)),
            [row.kind, row.place, row.note].map((text) => make('td', { class: 'words wrap' }, text))))))));
    }));
}

// ---- controls

function options(select, entries, value) {
  select.replaceChildren(...entries.map(([key, title]) => make('option', { value: key, selected: key === value }, title)));
}

// the one with the most runs first
function datasetNames() {
  const size = {};
  for (const row of configurations) size[row.dataset] = (size[row.dataset] || 0) + row.runs.length;
  return Object.keys(size).sort((a, b) => size[b] - size[a]);
}

function drawControls() {
  const datasets = datasetNames();
  state.dataset = state.dataset ?? datasets[0];
  options(byId('dataset'), datasets.map((name) => [name, name]), state.dataset);
  const here = configurations.filter((row) => row.dataset === state.dataset); // what this data set has
  const metrics = data.metrics.filter(({ name }) => here.some((row) => row.scores[name].n));
  if (!metrics.some(({ name }) => name === state.metric)) state.metric = metrics[0].name;
  options(byId('metric'), metrics.map(({ name, title }) => [name, title]), state.metric);
  const costs = data.costs.filter(({ name }) => here.some((row) => row.costs[name] !== null)).map(({ name, title }) => [name, title]);
  if (costTitle.bytes_per_track || costTitle.rate_bps) costs.push([VIRTUAL, 'bytes for the collection']);
  if (!costs.some(([name]) => name === state.cost)) state.cost = costs.length ? costs[0][0] : null;
  options(byId('cost'), costs, state.cost);
  byId('search').value = state.search;
  byId('published').checked = state.published;
  const present = (name, value) => here.some((row) => row[name] === value);
  const filters = data.filters.map(({ name, options: all }) => ({ name, values: all.filter(({ value }) => present(name, value)) }))
    .filter(({ values }) => values.length > 1);
  byId('filters').replaceChildren(...filters.map(({ name, values }) => make('fieldset', {},
    make('legend', {}, { n_mels: 'mel bands', hop: 'hop', sample_rate: 'sample rate', outside_data: 'outside data' }[name] || name),
    make('div', { class: 'options' }, values.map(({ value, title }) => make('label', {},
      make('input', { type: 'checkbox', checked: !(state.off[name] && state.off[name].has(value)), 'data-field': name, 'data-value': value,
        onchange: (event) => toggle(name, value, event.target.checked) }), title.replace(/ mels$|^hop /, '')))))));
}

function toggle(name, value, on) {
  state.off[name] = state.off[name] || new Set();
  if (on) state.off[name].delete(value); else state.off[name].add(value);
  render();
}

byId('dataset').addEventListener('change', (event) => {
  Object.assign(state, { dataset: event.target.value, off: {} });
  drawControls();
  render();
});
byId('metric').addEventListener('change', (event) => { state.metric = event.target.value; render(); });
byId('cost').addEventListener('change', (event) => { state.cost = event.target.value; render(); });
byId('published').addEventListener('change', (event) => { state.published = event.target.checked; render(); });
byId('reset').addEventListener('click', () => { Object.assign(state, { search: '', off: {}, published: false }); drawControls(); render(); });
let waiting = null;
byId('search').addEventListener('input', (event) => {
  clearTimeout(waiting);
  waiting = setTimeout(() => { state.search = event.target.value.trim().toLowerCase(); render(); }, 150);
});

const plural = (n, word) => `${count(n)} ${word}${n === 1 ? '' : 's'}`;
byId('facts').textContent = [plural(data.runs.count, 'run'), plural(configurations.length, 'configuration'),
  plural(new Set(configurations.map((row) => row.dataset)).size, 'data set'),
  data.replaced ? `${plural(data.replaced, 'run')} done again since` : '', data.skipped_count ? `${plural(data.skipped_count, 'folder')} skipped` : '']
  .filter(Boolean).join(' · ');
byId('made').textContent = `Made by featstore ${data.version} on ${data.made.slice(0, 16).replace('T', ' ')} UTC. This page loads nothing from the network.`;
if (data.skipped_count) {
  byId('skipped').hidden = false;
  byId('skipped-list').append(...data.skipped.map((text) => make('li', {}, text)));
  if (data.skipped_count > data.skipped.length) byId('skipped-list').append(make('li', {}, `and ${data.skipped_count - data.skipped.length} more`));
}
if (data.clips.length) {
  byId('listen').hidden = false;
  showClips(byId('clips'));
}
const narrow = matchMedia('(max-width: 860px)'); // there what chooses would stand between the answer and the chart
const fold = () => { byId('choose').open = !narrow.matches; };
narrow.addEventListener('change', fold);
fold();
drawReference();
follow();
addEventListener('hashchange', follow);
document.documentElement.dataset.ready = 'yes';
