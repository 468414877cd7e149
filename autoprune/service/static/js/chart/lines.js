// Step lines of one or several series over one axis, with a readout under the pointer; and the little ones of a list.

import { h, put, s } from "../dom.js";
import { Frame, steps } from "./frame.js";
import { extent, padded } from "./scale.js";

export class StepPlot {
  /** `readout(x, [{name, y}])`: the text under the pointer. */
  constructor(host, { height = 240, label, readout }) {
    this.frame = new Frame(host, { height, label, redraw: () => this.draw() });
    this.readout = readout;
    this.note = h("div", { class: "tip", hidden: true });
    host.append(this.note);
    this.frame.svg.addEventListener("pointermove", (event) => this.#move(event));
    this.frame.svg.addEventListener("pointerleave", () => {
      this.note.hidden = true;
      this.rule?.setAttribute("visibility", "hidden");
    });
  }

  /** `x`, `y`: {title, kind}; series: [{name, xs, ys}], xs ascending; each line is drawn on to `end` where given. */
  show({ x, y, series, end }) {
    this.data = { x, y, series, end };
    this.draw();
  }

  close() {
    this.frame.close();
  }

  draw() {
    if (!this.data) return;
    const { x, y, series, end } = this.data;
    const last = Math.max(end ?? 0, extent(series.flatMap((one) => one.xs))[1], 1e-9);
    const [low, high] = padded(extent(series.flatMap((one) => one.ys)), 0.08);
    const { sx, sy, plane, area } = this.frame.begin(
      { ...x, domain: [0, last * 1.01] },
      { ...y, domain: [Math.max(low, y.least ?? low), high] },
    );
    series.forEach((one, at) => {
      const line = steps(one.xs.map(sx), one.ys.map(sy)) + (one.xs.length ? `H${sx(last).toFixed(1)}` : "");
      plane.append(s("path", { class: `line series${at}`, d: line }));
    });
    this.rule = s("path", { class: "budget", d: `M0 ${area.top}V${area.bottom}`, visibility: "hidden" });
    plane.append(this.rule);
  }

  #move(event) {
    if (!this.data?.series.length) return;
    const { frame } = this;
    const box = frame.svg.getBoundingClientRect();
    const px = ((event.clientX - box.left) * frame.width) / box.width;
    if (px < frame.area.left || px > frame.area.right) return;
    const at = frame.sx.invert(px);
    const values = this.data.series.map((one) => ({ name: one.name, y: before(one, at) }));
    put(this.note, this.readout(at, values));
    this.note.hidden = false;
    const left = px + 14 + this.note.offsetWidth > frame.width ? px - this.note.offsetWidth - 14 : px + 14;
    this.note.style.setProperty("transform", `translate(${left}px, ${frame.area.top + 8}px)`);
    this.rule.setAttribute("transform", `translate(${px} 0)`);
    this.rule.setAttribute("visibility", "visible");
  }
}

/** The value of a step line at a place; null before its first. */
function before(one, at) {
  let [low, high] = [0, one.xs.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (one.xs[middle] <= at) low = middle + 1;
    else high = middle;
  }
  return low ? one.ys[low - 1] : null;
}

/** A line without axes, 110 by 26, as a picture with a description. */
export function sparkline(xs, ys, label) {
  const svg = s("svg", {
    class: "spark",
    viewBox: "0 0 110 26",
    width: 110,
    height: 26,
    role: "img",
    "aria-label": label,
  });
  if (!xs.length) return svg;
  const last = xs.at(-1) || 1,
    most = extent(ys)[1] || 1;
  const [px, py] = [xs.map((x) => 2 + (106 * x) / last), ys.map((y) => 23 - (20 * y) / most)];
  svg.append(
    s("path", { class: "area", d: `${steps(px, py)}V25H${px[0].toFixed(1)}Z` }),
    s("path", { class: "line series0", d: steps(px, py) }),
  );
  return svg;
}
