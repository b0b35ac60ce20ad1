// The bounds were computed in Python and stand in the data; here follows what depends on the choice of rows and margin.

// rows that no other dominates: less cost and a better score; rows come sorted by cost, of equals the best first
function onFront(costs, scores, lower) {
  const better = (a, b) => (lower ? a < b : a > b);
  const result = [];
  let best = null;
  let from = null;
  costs.forEach((value, row) => {
    const equal = from !== null && value === from.cost && scores[row] === from.score;
    const keep = best === null || better(scores[row], best) || equal;
    if (keep && !equal) { best = scores[row]; from = { cost: value, score: scores[row] }; }
    result.push(keep);
  });
  return result;
}

// both fronts of some configurations, the best of them, and the cheapest whose bound lies within the margin
function judge(rows, metric, costOf, margin) {
  const { lower } = metricOf[metric];
  const sign = lower ? 1 : -1;
  const known = rows.filter((row) => row.scores[metric].mean !== null && costOf(row) !== null && costOf(row) !== undefined);
  known.sort((a, b) => costOf(a) - costOf(b) || sign * (a.scores[metric].mean - b.scores[metric].mean));
  if (!known.length) return { rows: [], best: null, answer: null, found: false, bounded: false, statement: '' };
  const means = known.map((row) => row.scores[metric].mean);
  const judged = known.map((row, i) => ({ row, cost: costOf(row), mean: means[i], front: false, sure: false, bound: row.scores[metric].bound }));
  const trained = judged.filter(({ row }) => !row.undertrained);
  onFront(trained.map((item) => item.cost), trained.map((item) => item.mean), lower).forEach((keep, i) => { trained[i].front = keep; });
  const bounded = judged.every(({ bound }) => bound.most !== null);
  if (bounded) markSure(trained);
  const best = judged.reduce((one, item) => (sign * item.mean < sign * one.mean ? item : one));
  const good = bounded ? trained.find(({ bound }) => bound.most <= margin * (1 + 1e-9)) : null;
  const least = bounded && trained.length ? trained.reduce((one, item) => (item.bound.most < one.bound.most ? item : one)) : best;
  const all = configurations.filter((row) => row.dataset === known[0].dataset && row.scores[metric].mean !== null);
  const top = all.map((row) => row.scores[metric].mean).reduce((a, b) => (sign * a < sign * b ? a : b));
  const rest = known.length < all.length ? ` The best of all ${count(all.length)} configurations is meant, whatever is shown here.` : '';
  return { rows: judged, best, top, answer: good ?? least, found: Boolean(good), bounded,
    statement: (data.bounds[metric].statements[known[0].dataset] ?? '') + rest };
}

// the front of cost and bound: of equally cheap rows the smallest bound counts first
function markSure(judged) {
  const order = [...judged].sort((a, b) => a.cost - b.cost || a.bound.most - b.bound.most);
  onFront(order.map((item) => item.cost), order.map((item) => item.bound.most), true)
    .forEach((keep, i) => { order[i].sure = keep; });
}

const isShare = (metric) => metricOf[metric].share;
const up = (value) => (Math.ceil(Number((1000 * value).toFixed(6))) / 10).toFixed(1);
const down = (value) => { // a small lower bound gets a second decimal
  const decimals = value > 0 && value < 0.001 ? 2 : 1;
  return (Math.floor(Number((100 * value * 10 ** decimals).toFixed(6))) / 10 ** decimals).toFixed(decimals);
};
const atMost = (metric, value) => (isShare(metric) ? `${up(value)} points` : digits(value, 3));
const atLeast = (metric, value) => (isShare(metric) ? `${down(value)} points` : digits(value, 3));
const marginText = (metric, value) => (isShare(metric) ? `${digits(100 * value, 3)} point${Math.abs(value - 0.01) < 1e-9 ? '' : 's'}` : digits(value, 3));
const sideOf = (metric) => (metricOf[metric].lower ? 'above' : 'below');
const isWorse = (item) => item.bound.least > 0 && !item.row.undertrained;

// what is known of a row, in words
function boundText(item, metric) {
  const { most, least } = item.bound;
  if (most === null) return 'not bounded';
  if (most === 0) return 'the best of all';
  return `at most ${atMost(metric, most)} ${sideOf(metric)} the best${least > 0 ? `, at least ${atLeast(metric, least)}` : ''}`;
}
