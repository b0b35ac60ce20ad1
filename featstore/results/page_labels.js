// Where names stand in the chart: on no other name, on no mark, and across as few lines as can be. The rules are
// those of label_places.py; here y points downwards.

const LABEL_STEPS = [0, ...[1, 1.7, 2.6, 3.6, 4.8, 6.2, 7.8, 9.6, 11.6, 13.8].flatMap((distance) => [-distance, distance])];

// names: { x, y, width, must } in order of importance; inside: [left, top, right, bottom]; taken: such boxes; lines:
// [x0, y0, x1, y1]. Returns { box, side, leader } or null for each name.
function placeLabels(names, { inside, taken, lines, height = 14, gap = 9 }) {
  const used = [...taken];
  const segments = [...lines];
  return names.map((name) => {
    let best = null;
    for (const place of labelCandidates(name, height, gap)) {
      if (best && place.away >= best.cost) continue;
      const { box } = place;
      if (box[0] < inside[0] || box[1] < inside[1] || box[2] > inside[2] || box[3] > inside[3]) continue;
      if (used.some((other) => overlap(box, other))) continue;
      const cost = place.away + 1.5 * crossings(place, segments, name, used);
      if (!best || cost < best.cost) best = { ...place, cost };
    }
    if (best) {
      used.push(best.box);
      if (best.leader) segments.push([name.x, name.y, ...best.leader]);
    }
    return best;
  });
}

function* labelCandidates({ x, y, width, must }, height, gap) {
  for (const step of must ? LABEL_STEPS : LABEL_STEPS.slice(0, 9)) {
    for (const sideways of must && Math.abs(step) > 1.8 ? [0, 1.6, 4] : [0]) {
      for (const side of [-1, 1]) {
        const middle = y + step * height;
        const near = x + side * (gap + sideways * height);
        const left = side > 0 ? near : near - width;
        const away = Math.abs(step) + sideways;
        yield { box: [left, middle - height / 2, left + width, middle + height / 2], side, near, middle, away,
          leader: away > 1.8 ? [near, middle] : null };
      }
    }
  }
}

const overlap = (a, b) => a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3];

function crossings(place, segments, mark, boxes) {
  const count = segments.filter((segment) => cuts(segment, place.box)).length;
  if (!place.leader) return count;
  const around = (box) => box[0] <= mark.x && mark.x <= box[2] && box[1] <= mark.y && mark.y <= box[3];
  return count + boxes.filter((box) => !around(box) && cuts([mark.x, mark.y, ...place.leader], box)).length;
}

// whether a straight line has a part inside a box (Liang and Barsky 1984)
function cuts([x0, y0, x1, y1], box) {
  let [start, end] = [0, 1];
  for (const [step, low, high] of [[x1 - x0, box[0] - x0, box[2] - x0], [y1 - y0, box[1] - y0, box[3] - y0]]) {
    if (step === 0) {
      if (low > 0 || high < 0) return false;
    } else {
      start = Math.max(start, Math.min(low / step, high / step));
      end = Math.min(end, Math.max(low / step, high / step));
    }
  }
  return start < end;
}
