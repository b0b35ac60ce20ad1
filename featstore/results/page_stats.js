// What the tests say was computed in Python and stands in the data; here follows what depends on the choice of rows.

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

// the front of some configurations, the best of them, and the cheapest not told apart from the best of the data set
function judge(rows, metric, costOf) {
  const lower = metricOf[metric].lower;
  const known = rows.filter((row) => row.scores[metric].mean !== null && costOf(row) !== null && costOf(row) !== undefined);
  const sign = lower ? 1 : -1;
  known.sort((a, b) => costOf(a) - costOf(b) || sign * (a.scores[metric].mean - b.scores[metric].mean));
  if (!known.length) return { rows: [], best: null, answer: null, tested: false, statement: '' };
  const means = known.map((row) => row.scores[metric].mean);
  const bestRow = means.reduce((best, value, i) => (sign * value < sign * means[best] ? i : best), 0);
  const front = onFront(known.map(costOf), means, lower);
  const judged = known.map((row, i) => ({ row, cost: costOf(row), mean: means[i], front: front[i], test: row.scores[metric].test }));
  const answer = judged.find((item) => same(item));
  const all = configurations.filter((row) => row.dataset === known[0].dataset && row.scores[metric].mean !== null).length;
  const rest = known.length < all ? ` The best of all ${count(all)} configurations is meant, whatever is shown here.` : '';
  return {
    rows: judged, best: judged[bestRow], answer: answer ?? judged[bestRow], found: Boolean(answer),
    tested: judged.some((item) => item.test.p !== null), statement: data.tests[metric].statements[known[0].dataset] + rest,
  };
}

const verdictOf = (item) => item.test.verdict;
const same = (item) => ['best', 'not told apart'].includes(item.test.verdict);
