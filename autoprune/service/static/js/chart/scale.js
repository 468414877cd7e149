// From numbers to pixels and back.

/** Map [low, high] to [from, to]; logarithmic where `log`. */
export function scale([low, high], [from, to], log = false) {
  const bend = log ? Math.log : (number) => number;
  const back = log ? Math.exp : (number) => number;
  const a = bend(low),
    b = bend(high) - a || 1;
  const map = (number) => from + ((bend(number) - a) / b) * (to - from);
  map.invert = (pixel) => back(a + ((pixel - from) / (to - from)) * b);
  map.domain = [low, high];
  return map;
}

/** About `wanted` round numbers between low and high. */
export function ticks(low, high, wanted) {
  const raw = (high - low) / Math.max(1, wanted);
  if (!(raw > 0) || !Number.isFinite(raw)) return [low];
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * ([1, 2, 2.5, 5, 10].find((factor) => factor * power >= raw) ?? 10);
  const found = [];
  for (let at = Math.ceil(low / step - 1e-9); at * step <= high + step * 1e-9; at++)
    found.push(Number((at * step).toPrecision(12)));
  return found;
}

/** Round numbers for a logarithmic axis: 1, 2, 5 times the powers of ten, or plain ticks where it spans little. */
export function logTicks(low, high, wanted) {
  const found = [];
  for (let power = 10 ** Math.floor(Math.log10(low)); power <= high; power *= 10) {
    for (const factor of [1, 2, 5]) if (factor * power >= low && factor * power <= high) found.push(factor * power);
  }
  return found.length >= 3 ? found : ticks(low, high, wanted);
}

/**
 * Limits that show everything important and as much of the rest as does not squeeze it: the rest may take two thirds
 * of the important span on the worse side. As visible_range in autoprune/analysis/plots.py.
 */
export function visibleRange(values, important, direction) {
  let [low, high] = extent(important);
  const span = Math.max(high - low, 0.03 * Math.max(Math.abs(low), Math.abs(high)), 1e-12);
  const [least, most] = extent(values);
  if (direction === "max") low = Math.max(Math.min(low, least), low - span / 1.5);
  else high = Math.min(Math.max(high, most), high + span / 1.5);
  const margin = 0.06 * Math.max(high - low, span);
  return [low - margin, high + margin];
}

/** Least and greatest of any number of values; [Infinity, -Infinity] of none. */
export function extent(values) {
  let low = Infinity,
    high = -Infinity;
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return [low, high];
}

/** An extent with a margin on both sides that is never empty. */
export function padded([low, high], margin = 0.04) {
  if (!Number.isFinite(low) || !Number.isFinite(high)) return [0, 1];
  const span = high - low || Math.abs(high) || 1;
  return [low - margin * span, high + margin * span];
}
