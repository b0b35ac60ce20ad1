// The state of the page in its address, so that a link leads to what its sender sees.

const USUAL = { dataset: null, metric: data.metrics[0].name, cost: null, search: '', published: false, opened: null,
  margin: data.margin, tracks: 100000, seconds: 210, budget: null };

// what the address says, over the usual state; what this page does not know is left out
function readLink() {
  const said = new URLSearchParams(location.hash.slice(1));
  const found = { ...USUAL, off: {} };
  const known = (key, values) => { if (values.includes(said.get(key))) found[key] = said.get(key); };
  const positive = (key) => (Number(said.get(key)) > 0 && Number.isFinite(Number(said.get(key))) ? Number(said.get(key)) : null);
  known('dataset', configurations.map((row) => row.dataset));
  known('metric', data.metrics.map(({ name }) => name));
  known('cost', [...data.costs.map(({ name }) => name), VIRTUAL]);
  found.search = said.get('search') ?? '';
  found.opened = said.get('opened');
  found.published = said.has('published');
  if (data.margins.includes(positive('margin'))) found.margin = positive('margin');
  found.tracks = Math.round(positive('tracks') ?? USUAL.tracks) || USUAL.tracks;
  if (said.has('minutes')) found.seconds = positive('minutes') && 60 * positive('minutes');
  found.budget = positive('budget') && 1e9 * positive('budget');
  for (const { name } of data.filters) {
    const off = said.getAll(`without-${name}`);
    if (off.length) found.off[name] = new Set(off);
  }
  return found;
}

function linkOf(state, opened, usualDataset) {
  const said = new URLSearchParams();
  const add = (key, value, usual) => { if (value !== usual && value !== null) said.set(key, value); };
  add('dataset', state.dataset, usualDataset);
  add('metric', state.metric, USUAL.metric);
  add('cost', state.cost, data.costs.length ? data.costs[0].name : null);
  add('search', state.search, '');
  add('margin', state.margin, USUAL.margin);
  add('tracks', state.tracks, USUAL.tracks);
  if (state.seconds !== USUAL.seconds) said.set('minutes', state.seconds === null ? '' : Number((state.seconds / 60).toPrecision(6)));
  if (state.budget) said.set('budget', state.budget / 1e9);
  if (state.published) said.set('published', 'yes');
  for (const [name, values] of Object.entries(state.off)) for (const value of values) said.append(`without-${name}`, value);
  if (opened) said.set('opened', opened);
  return `#${said}`;
}
