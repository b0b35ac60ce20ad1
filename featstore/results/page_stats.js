// The tests of featstore.results.significance and fronts, so that filtering asks them anew.

function logGamma(z) {
  const c = [76.18009172947146, -86.50532032941677, 24.01409824083091, -1.231739572450155, 0.1208650973866179e-2,
    -0.5395239384953e-5];
  const t = z + 5.5 - (z + 0.5) * Math.log(z + 5.5);
  return Math.log(2.5066282746310005 * c.reduce((sum, value, k) => sum + value / (z + 1 + k), 1.000000000190015) / z) - t;
}

// regularised incomplete beta function, by its continued fraction
function incompleteBeta(a, b, x) {
  if (x <= 0 || x >= 1) return x <= 0 ? 0 : 1;
  if (x > (a + 1) / (a + b + 2)) return 1 - incompleteBeta(b, a, 1 - x);
  const scale = Math.exp(logGamma(a + b) - logGamma(a) - logGamma(b) + a * Math.log(x) + b * Math.log(1 - x)) / a;
  let c = 1;
  let d = 1 / (1 - ((a + b) * x) / (a + 1));
  let h = d;
  for (let m = 1; m < 300; m += 1) {
    const even = (m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m));
    d = 1 / (1 + even * d); c = 1 + even / c; h *= d * c;
    const odd = (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1));
    d = 1 / (1 + odd * d); c = 1 + odd / c;
    h *= d * c;
    if (Math.abs(d * c - 1) < 1e-12) break;
  }
  return scale * h;
}

// probability of |t| or more, Student's t, two-sided
const twoSided = (t, df) => incompleteBeta(df / 2, 0.5, df / (df + t * t));

// the t that is exceeded on either side together with probability 1 − confidence
function tQuantile(confidence, df) {
  let low = 0;
  let high = 1e7;
  for (let step = 0; step < 200 && high - low > 1e-10 * (1 + high); step += 1) {
    const middle = (low + high) / 2;
    if (twoSided(middle, df) > 1 - confidence) low = middle; else high = middle;
  }
  return (low + high) / 2;
}

function moments(values) {
  const known = values.filter((value) => value !== null);
  const mean = known.reduce((sum, value) => sum + value, 0) / known.length;
  const variance = known.length > 1
    ? known.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (known.length - 1) : NaN;
  return { n: known.length, mean, variance };
}

// Welch's t-test, two-sided; the same fields as Comparison
function welch(first, second, confidence = 0.95) {
  const a = moments(first);
  const b = moments(second);
  const result = { n_a: a.n, n_b: b.n, difference: a.mean - b.mean, low: NaN, high: NaN, t: NaN, df: NaN, p: NaN };
  if (Math.min(a.n, b.n) < 2) return result;
  const va = a.variance / a.n;
  const vb = b.variance / b.n;
  if (va + vb === 0) {
    return { ...result, low: result.difference, high: result.difference, df: a.n + b.n - 2, p: result.difference ? 0 : 1 };
  }
  const error = Math.sqrt(va + vb);
  const df = (va + vb) ** 2 / (va ** 2 / (a.n - 1) + vb ** 2 / (b.n - 1));
  const t = result.difference / error;
  const reach = tQuantile(confidence, df) * error;
  return { ...result, low: result.difference - reach, high: result.difference + reach, t, df, p: twoSided(t, df) };
}

// Holm's step-down method; NaN stays NaN and does not count
function holm(values) {
  const order = values.map((p, i) => [p, i]).filter(([p]) => !Number.isNaN(p)).sort((x, y) => x[0] - y[0]);
  const adjusted = values.map(() => NaN);
  let least = 0;
  order.forEach(([p, i], rank) => {
    least = Math.max(least, Math.min(1, p * (order.length - rank)));
    adjusted[i] = least;
  });
  return adjusted;
}

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

// everything the page says about some configurations: front, best, cheapest not told apart from it
function judge(rows, metric, costOf) {
  const lower = metricOf[metric].lower;
  const known = rows.filter((row) => row.scores[metric].mean !== null && costOf(row) !== null && costOf(row) !== undefined);
  const sign = lower ? 1 : -1;
  known.sort((a, b) => costOf(a) - costOf(b) || sign * (a.scores[metric].mean - b.scores[metric].mean));
  if (!known.length) return { rows: [], best: null, answer: null, comparisons: 0, statement: '' };
  const means = known.map((row) => row.scores[metric].mean);
  const bestRow = means.reduce((best, value, i) => (sign * value < sign * means[best] ? i : best), 0);
  const tests = known.map((row) => welch(row.scores[metric].values, known[bestRow].scores[metric].values));
  const adjusted = holm(tests.map((test, i) => (i === bestRow ? NaN : test.p)));
  const front = onFront(known.map(costOf), means, lower);
  const judged = known.map((row, i) => ({
    row, cost: costOf(row), mean: means[i], front: front[i], test: tests[i], p: adjusted[i],
    apart: i === bestRow ? false : Number.isNaN(adjusted[i]) ? null : adjusted[i] < 0.05,
    doubt: i !== bestRow && adjusted[i] >= 0.05 && tests[i].p < 0.05, // only the correction keeps it from differing
  }));
  const answer = judged.findIndex((item) => item.apart === false && !item.doubt);
  const comparisons = adjusted.filter((p) => !Number.isNaN(p)).length;
  return {
    rows: judged, best: judged[bestRow], answer: judged[answer], comparisons,
    statement: sayTest(judged, metric, comparisons, bestRow),
  };
}

const verdictOf = (item, best) => (item === best ? 'best' : item.apart === null ? 'not tested' : item.apart ? 'differs'
  : item.doubt ? 'in doubt' : 'not told apart');

function sayTest(judged, metric, comparisons, best) {
  const counts = judged.map((item) => item.row.scores[metric].n);
  const least = counts.reduce((a, b) => Math.min(a, b));
  const most = counts.reduce((a, b) => Math.max(a, b));
  const span = least === most ? `${least}` : `${least} to ${most}`;
  if (!comparisons) {
    const who = counts[best] < 2 && most > 1 ? 'the best has n = 1' : `n = ${span} per configuration`;
    return `Not tested: ${who}; a test needs at least 2 (3 seeds are advised).`;
  }
  return `Welch's t-test against the best, two-sided, on n = ${span} per configuration (ddof = 1), Holm's correction over `
    + `${comparisons} comparisons, alpha = 0.05; in doubt: differs without the correction. Not told apart does not mean equal: with few runs only large differences show.`;
}
