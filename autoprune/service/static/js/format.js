// Numbers as people read them: what autoprune/analysis/metrics.py prints, for the browser. A test compares the two.

const KNOWN = {
  top1: ["search-val top-1 accuracy", "max", "fraction"],
  test_top1: ["test top-1 accuracy", "max", "fraction"],
  top5: ["search-val top-5 accuracy", "max", "fraction"],
  test_top5: ["test top-5 accuracy", "max", "fraction"],
  loss: ["search-val loss", "min", "plain"],
  test_loss: ["test loss", "min", "plain"],
  macs: ["MACs", "min", "count"],
  flops: ["FLOPs (2 per MAC)", "min", "count"],
  params: ["parameters", "min", "count"],
  keep_ratio: ["channels kept", "min", "fraction"],
  latency_ms: ["latency", "min", "ms"],
  size_bytes: ["size", "min", "bytes"],
  weight_bytes: ["weights", "min", "bytes"],
  peak_activation_bytes: ["peak of activations", "min", "bytes"],
};
const RANK = Object.keys(KNOWN);

/** {name, label, direction, kind} of a metric; an unknown one is a plain number to be minimised. */
export function describe(name) {
  const known = Object.hasOwn(KNOWN, name) ? KNOWN[name] : [name, "min", name.endsWith("_ms") ? "ms" : "plain"];
  return { name, label: known[0], direction: known[1], kind: known[2] };
}

/** Each name once: known ones in their usual order, then the others by name. */
export function ordered(names) {
  const rank = (name) => RANK.indexOf(name) + 1 || RANK.length + 1;
  return [...new Set(names)].sort((a, b) => rank(a) - rank(b) || (a < b ? -1 : a > b ? 1 : 0));
}

/** Three significant digits with k, M or G. */
export function count(value) {
  const size = Math.abs(value);
  if (!Number.isFinite(value)) return "-";
  if (size < 999.5) return value.toFixed(0);
  const [unit, scale] = size < 999.5e3 ? ["k", 1e3] : size < 999.5e6 ? ["M", 1e6] : ["G", 1e9];
  const scaled = size / scale;
  return (value / scale).toFixed(scaled < 9.995 ? 2 : scaled < 99.95 ? 1 : 0) + unit;
}

/** One value of a metric; `-` when it is missing or not finite. */
export function value(name, number, kind = describe(name).kind) {
  if (number === null || number === undefined || !Number.isFinite(number)) return "-";
  if (kind === "fraction") return `${(100 * number).toFixed(2)} %`;
  if (kind === "count") return count(number);
  if (kind === "bytes") return `${count(number)}B`;
  return kind === "ms" ? `${significant(number, 3)} ms` : significant(number, 4);
}

/** As Python's `g` format. */
export function significant(number, digits) {
  if (number === 0) return "0";
  const power = Number(number.toExponential(digits - 1).split("e")[1]);
  if (power >= -4 && power < digits) return String(Number(number.toPrecision(digits)));
  const [mantissa, exponent] = number.toExponential(digits - 1).split("e");
  return `${Number(mantissa)}e${exponent[0]}${exponent.slice(1).padStart(2, "0")}`;
}

/** A value as a share of the baseline's: `49 %`; empty where there is none. */
export function share(number, base) {
  if (!Number.isFinite(number) || !Number.isFinite(base) || base <= 0) return "";
  return `${significant(100 * (number / base), 3)} %`;
}

/** The tick of an axis: `20M` rather than `20.0M`. */
export function tick(number, kind) {
  if (kind === "fraction") return `${significant(100 * number, 4)} %`;
  if (kind !== "count" && kind !== "bytes") return significant(number, 6) + (kind === "ms" ? " ms" : "");
  const [, digits, unit] = /^(-?[\d.]+)(.*)$/.exec(count(number)) ?? [null, count(number), ""];
  return (digits.includes(".") ? digits.replace(/\.?0+$/, "") : digits) + unit + (kind === "bytes" ? "B" : "");
}

/** `2 min 5 s` */
export function duration(seconds) {
  if (!Number.isFinite(seconds)) return "-";
  if (seconds < 10) return `${significant(seconds, 2)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

/** A moment as the reader's locale writes it. */
export function moment(seconds) {
  return new Date(1000 * seconds).toLocaleString(undefined, {
    day: "numeric",
    month: "short",
    hour: "2-digit",
    minute: "2-digit",
    hourCycle: "h23",
  });
}

/** `3 trials`, `1 trial` */
export function plural(number, noun) {
  return `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : noun.endsWith("h") ? "es" : "s"}`;
}
