/** Format seconds as 1:02:03.4 with `digits` decimals. */
export function clock(seconds, digits = 0) {
  const unit = 10 ** digits;
  const whole = Math.round(Math.max(0, seconds) * unit);
  const total = Math.floor(whole / unit);
  const parts = [Math.floor(total / 3600), Math.floor(total / 60) % 60, total % 60];
  if (parts[0] === 0) parts.shift();
  const text = parts.map((part, i) => (i === 0 ? String(part) : String(part).padStart(2, "0"))).join(":");
  return digits ? `${text}.${String(whole % unit).padStart(digits, "0")}` : text;
}

export function span(start, end) {
  return `${clock(start, 1)}\u2009–\u2009${clock(end, 1)}`;
}

/** Format seconds for a screen reader: "1 minute 2.5 seconds". */
export function spoken(seconds) {
  const minutes = Math.floor(seconds / 60);
  const rest = `${Math.round((seconds - 60 * minutes) * 10) / 10} seconds`;
  return minutes ? `${count(minutes, "minute")} ${rest}` : rest;
}

export function percent(score) {
  return score > 0 && score < 0.01 ? "<1\u2009%" : `${Math.round(100 * score)}\u2009%`;
}

export function count(number, noun) {
  return `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
}

export function bytes(number) {
  const units = ["bytes", "kB", "MB", "GB"];
  let size = number;
  let unit = 0;
  while (size >= 1000 && unit < units.length - 1) {
    size /= 1000;
    unit += 1;
  }
  return `${unit && size < 10 ? size.toFixed(1) : Math.round(size)} ${units[unit]}`;
}

/** Format a label: pan_left becomes "pan left". */
export function words(label) {
  return label.replaceAll("_", " ");
}
