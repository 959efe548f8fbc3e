/** Geometry and drawing of a timeline, without access to the page except the given canvas. */

const STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200];
const FAINTEST = 0.01;
const SMALL_CHANGE = 0.2; // reach of the curve at least, so that noise of a still video looks small

/**
 * Clips may overlap or leave gaps. Where two overlap, each gets the part that is nearer to its centre; a clip that overlaps no other
 * keeps its span: clips [{start, end}] -> [[from, to]] in seconds, without overlap.
 */
export function cellsOf(clips) {
  const borders = clips.slice(1).map((next, i) => {
    const { start, end } = clips[i];
    if (next.start >= end) return null;
    const between = (start + end + next.start + next.end) / 4;
    return Math.min(Math.max(between, next.start), end);
  });
  return clips.map(({ start, end }, i) => [borders[i - 1] ?? start, borders[i] ?? end]);
}

/** Index of the cell that contains a time, or of the nearest one. */
export function cellAt(cells, time) {
  let low = 0;
  let high = cells.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (cells[middle][1] <= time) low = middle + 1;
    else high = middle;
  }
  const isNearerBefore = low > 0 && cells[low][0] > time && time - cells[low - 1][1] < cells[low][0] - time;
  return isNearerBefore ? low - 1 : low;
}

/** Labels of all clips, those with the highest total first: [{label, best, sum, scores: [one for each clip]}]. */
export function lanesOf(clips) {
  const lanes = new Map();
  clips.forEach(({ labels }, i) => {
    for (const { label, score } of labels) {
      if (!lanes.has(label)) lanes.set(label, { label, best: 0, sum: 0, scores: new Float32Array(clips.length) });
      const lane = lanes.get(label);
      lane.scores[i] = score;
      lane.best = Math.max(lane.best, score);
      lane.sum += score;
    }
  });
  return [...lanes.values()].sort((a, b) => b.sum - a.sum);
}

/** Return the smallest usual step, in seconds, that is at least this large. */
export function niceStep(seconds) {
  return STEPS.find((step) => step >= seconds) ?? STEPS.at(-1);
}

/** Return the ticks of an axis, at least `apart` pixels from each other: {times, digits}. */
export function ticks(duration, width, apart) {
  const step = niceStep((duration * apart) / Math.max(width, 1));
  const times = Array.from({ length: Math.floor(duration / step + 1e-6) + 1 }, (_, i) => i * step);
  return { times, digits: step < 1 ? 1 : 0 };
}

/**
 * Draw lanes of bands with the score as height, below them a curve of `changes` (one for each clip, the first is null), and the
 * picture with a column for each clip. `lanes`: [{scores, colour}]; `size`: {width, lane, band, gap, curve, strip} in CSS pixels;
 * `cells` in seconds of `duration`; `line` and `ink` are colours.
 */
export function draw(canvas, { lanes, cells, changes, duration, picture, line, ink, size }) {
  const height = lanes.length * size.lane + (picture ? size.gap + size.curve + size.strip : 0);
  const dense = devicePixelRatio || 1;
  canvas.width = Math.round(size.width * dense);
  canvas.height = Math.round(height * dense);
  const pen = canvas.getContext("2d");
  pen.scale(dense, dense);
  const edges = cells.map((cell) => cell.map((time) => (time / duration) * size.width));
  lanes.forEach((lane, row) => {
    const floor = (row + 1) * size.lane - 1;
    pen.globalAlpha = 1;
    pen.fillStyle = line;
    pen.fillRect(0, floor, size.width, 1);
    pen.fillStyle = lane.colour;
    edges.forEach(([left, right], i) => drawBand(pen, left, right, floor, lane.scores[i], size.band));
  });
  pen.globalAlpha = 1;
  if (!picture) return;
  const floor = lanes.length * size.lane + size.gap + size.curve;
  pen.fillStyle = ink;
  drawCurve(pen, edges, changes, floor, size.curve);
  drawStrip(pen, edges, picture, floor, size.strip);
}

/** A filled curve of the changes, each where its clip's cell begins. */
function drawCurve(pen, edges, changes, floor, tall) {
  const most = changes.reduce((top, change) => Math.max(top, change ?? 0), SMALL_CHANGE);
  pen.beginPath();
  edges.forEach(([left], i) => {
    if (i === 1) pen.moveTo(left, floor);
    if (i > 0) pen.lineTo(left, floor - (changes[i] / most) * tall);
  });
  pen.lineTo(edges.at(-1)?.[0] ?? 0, floor);
  pen.fill();
}

function drawBand(pen, left, right, floor, score, tallest) {
  if (score < FAINTEST) return;
  const tall = Math.max(1.5, score * tallest);
  const apart = right - left > 5 ? 1 : 0;
  pen.globalAlpha = 0.35 + 0.65 * score;
  pen.fillRect(left, floor - tall, Math.max(right - left - apart, 1), tall);
}

/** The picture of a long video has fewer columns than the video has clips. */
function drawStrip(pen, edges, picture, top, tall) {
  const column = picture.naturalWidth / edges.length;
  pen.imageSmoothingEnabled = false; // clips would run into each other
  edges.forEach(([left, right], i) => {
    pen.drawImage(picture, i * column, 0, column, picture.naturalHeight, left, top, Math.max(right - left, 1) + 0.5, tall);
  });
}
