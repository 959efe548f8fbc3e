/** Geometry of camera motion over time, without access to the page: times in seconds, lengths in pixels. */

const NICE = [1, 1.5, 2, 3, 5, 7.5, 10];
const CERTAIN = 2; // standard deviations from which a speed certainly differs from 0
const CUT = 0.5; // probability from which a clip has no speed, since it shows two scenes
const HEADROOM = 1.05;
const GAP = 0.05; // seconds between two clips that are no longer neighbours

export const isCut = ({ cut }) => cut >= CUT;
export const isCertain = ({ value, sigma }) => Math.abs(value) > CERTAIN * sigma;

/** Return the largest speed of an axis, at least `least`: uncertain speeds {value, sigma} do not stretch it. */
export function limitOf(speeds, least) {
  const most = speeds.filter(isCertain).reduce((most, { value }) => Math.max(most, HEADROOM * Math.abs(value)), least);
  const unit = 10 ** Math.floor(Math.log10(most));
  return NICE.find((step) => step * unit >= most * (1 - 1e-9)) * unit;
}

/** Clips between which a curve is not interrupted, by cuts or by damage: [[first, last]]. */
export function runsOf(clips) {
  const runs = [];
  clips.forEach((clip, i) => {
    if (isCut(clip)) return;
    const run = runs.at(-1);
    if (run?.[1] === i - 1 && clip.start - clips[i - 1].end < GAP) run[1] = i;
    else runs.push([i, i]);
  });
  return runs;
}

/**
 * Speeds of a run in columns of `wide` seconds: [{time, least, most, low, high}], the extremes of the speeds, and of those with a
 * standard deviation. Each speed belongs to the middle of its clip's cell, and the first and last reach to the ends of theirs.
 */
export function columnsOf([first, last], cells, speeds, wide) {
  const columns = [];
  let place = null;
  for (let i = first; i <= last; i += 1) {
    const { value, sigma } = speeds[i];
    const time = (cells[i][0] + cells[i][1]) / 2;
    const own = { time, least: value, most: value, low: value - sigma, high: value + sigma };
    const column = Math.floor(time / wide);
    if (column === place) columns.push(merged(columns.pop(), own));
    else columns.push(own);
    place = column;
  }
  return [{ ...columns[0], time: cells[first][0] }, ...columns, { ...columns.at(-1), time: cells[last][1] }];
}

const merged = (a, b) => ({
  time: a.time,
  least: Math.min(a.least, b.least),
  most: Math.max(a.most, b.most),
  low: Math.min(a.low, b.low),
  high: Math.max(a.high, b.high),
});

/** Paths of the runs of a lane: {line, band}; `xOf(seconds)`, `yOf(speed)`. */
export function pathsOf(runs, { xOf, yOf }) {
  const point = (time, speed) => `${xOf(time).toFixed(1)} ${yOf(speed).toFixed(1)}`;
  const line = (columns) =>
    columns.flatMap(({ time, least, most }) =>
      least === most ? [point(time, least)] : [point(time, least), point(time, most)],
    );
  const band = (columns) => [
    ...columns.map(({ time, high }) => point(time, high)),
    ...columns.toReversed().map(({ time, low }) => point(time, low)),
  ];
  return {
    line: runs.map((columns) => `M${line(columns).join("L")}`).join(""),
    band: runs.map((columns) => `M${band(columns).join("L")}Z`).join(""),
  };
}

/** Segments in blocks of at least `wide` seconds: [{start, end, segments}]; a shorter segment shares its block. */
export function blocksOf(segments, wide) {
  const blocks = [];
  for (const segment of segments) {
    const { start, end } = segment;
    const block = blocks.at(-1);
    if (block && block.end - block.start < wide && start - block.end < wide) {
      block.end = end;
      block.segments.push(segment);
    } else blocks.push({ start, end, segments: [segment] });
  }
  return blocks;
}
