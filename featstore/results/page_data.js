// The data of the page, decoded, and numbers as people read them.

const data = JSON.parse(document.getElementById('data').textContent);

const column = (coded) => coded.codes.map((code) => coded.texts[code]);

const configurations = (() => {
  const source = data.configurations;
  const texts = {};
  for (const name of ['label', 'dataset', 'model', 'feature', 'configuration', 'representation', 'sample_rate',
    'n_mels', 'hop', 'scale', 'encoding', 'outside_data', 'over']) texts[name] = column(source[name]);
  return Array.from({ length: source.count }, (_, index) => {
    const row = { index, scores: {}, costs: {}, runs: [] };
    for (const name in texts) row[name] = texts[name][index];
    for (const { name } of data.metrics) {
      const values = source[`${name}.values`][index];
      row.scores[name] = { values, n: values.length };
      for (const part of ['mean', 'std', 'low', 'high']) row.scores[name][part] = source[`${name}.${part}`][index];
      const bounds = data.bounds[name];
      row.scores[name].bound = Object.fromEntries(['loss', 'most', 'least', 'standing'].map((part) => [part, bounds[part][index]]));
    }
    for (const { name } of data.costs) row.costs[name] = source[name][index];
    row.undertrained = source.undertrained[index]; // on no front, and no answer
    row.rate = source.rate[index];
    row.fixed = source.fixed_s[index];
    row.text = `${row.label} ${row.model} ${row.feature} ${row.dataset}`.toLowerCase();
    return row;
  });
})();
data.runs.configuration.forEach((place, run) => configurations[place].runs.push(run));

for (const metric of data.metrics) { // points are hundredths of a score between 0 and 1
  metric.share = metric.range[0] === 0 && metric.range[1] === 1;
  metric.range = [metric.range[0] ?? -Infinity, metric.range[1] ?? Infinity];
}
const metricOf = Object.fromEntries(data.metrics.map((metric) => [metric.name, metric]));
const costTitle = Object.fromEntries(data.costs.map((cost) => [cost.name, cost.title]));

// ---- numbers

const digits = (value, count) => Number(value.toPrecision(count)).toLocaleString('en', { maximumSignificantDigits: count });

function bytes(value) {
  if (value === null || value === undefined) return '–';
  const units = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];
  let unit = 0;
  let scaled = value;
  while (Math.abs(scaled) >= 999.5 && unit < units.length - 1) { scaled /= 1000; unit += 1; }
  return `${unit ? digits(scaled, 3) : Math.round(scaled)} ${units[unit]}`;
}

function seconds(value) {
  if (value === null || value === undefined) return '–';
  if (value && Math.abs(value) < 1) return `${digits(value * 1000, 3)} ms`;
  if (Math.abs(value) >= 3600) return `${digits(value / 3600, 3)} h`;
  return Math.abs(value) >= 60 ? `${digits(value / 60, 3)} min` : `${digits(value, 3)} s`;
}

const count = (value) => (value === null || value === undefined ? '–' : Math.round(value).toLocaleString('en'));
const score = (value) => (value === null || value === undefined ? '–' : value.toFixed(4));
const percent = (value) => (value === null || value === undefined ? '–' : `${digits(100 * value, 3)} %`);
const rate = (value) => (value === null || value === undefined ? '–' : `${digits(value / 1000, 3)} kbit/s`);

function cost(name, value) {
  if (value === null || value === undefined) return '–';
  if (name.startsWith('bytes')) return bytes(value);
  if (name.startsWith('seconds')) return seconds(value);
  if (name === 'rate_bps') return rate(value);
  if (name === 'ratio_to_audio') return percent(value);
  return name === 'parameters' ? count(value) : digits(value, 3);
}

function meanAndStd(part) {
  if (part.mean === null) return '–';
  return score(part.mean) + (part.std === null ? '' : ` ± ${score(part.std)}`);
}

// ---- elements: what runs contain becomes text, never markup

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  fill(element, attributes, children);
  return element;
}

function draw(tag, attributes = {}, ...children) {
  const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
  fill(element, attributes, children);
  return element;
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, '');
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== ''));
}

const byId = (id) => document.getElementById(id);

// a table that may be wider than the page scrolls by itself, and says so while something lies beyond its right edge
function scrolling(label, table) {
  const box = make('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': label }, table);
  const hint = make('p', { class: 'hint', 'aria-hidden': 'true', hidden: true }, 'scrolls sideways →');
  const tell = () => {
    hint.hidden = box.scrollWidth <= box.clientWidth + 1;
    hint.classList.toggle('end', box.scrollLeft + box.clientWidth >= box.scrollWidth - 8);
  };
  box.addEventListener('scroll', tell, { passive: true });
  const sizes = new ResizeObserver(tell);
  sizes.observe(box);
  sizes.observe(table);
  return make('div', {}, hint, box);
}

// call with the width of an element, now that it has one and whenever it changes
function onWidth(element, call) {
  let last = 0;
  new ResizeObserver(() => {
    const width = Math.round(element.clientWidth);
    if (width && width !== last) { last = width; call(width); }
  }).observe(element);
}
