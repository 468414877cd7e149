// The scatter of trials with one or several fronts: drawn whole whenever the data changes, one path for all dots.

import { s } from "../dom.js";
import { plural } from "../format.js";
import { Frame, diamond, dots, square, star, steps, triangle } from "./frame.js";
import { Explorer } from "./explorer.js";
import { extent, padded, visibleRange } from "./scale.js";

const DOT = 4.4;

/** How marks of each shape are drawn. */
export const SHAPES = { square, diamond, triangle };

/**
 * data: {
 *   x, y: {metric, direction},
 *   series: [{name, front: [{number, x, y}], others: [{number, x, y}], total, uniform: [{number, x, y}]}],
 *   marks: [{name, points: [{number, x, y, search}]}],   // random search, another search's uniform widths
 *   opened: {x, y} or null, fresh: [{x, y}],
 *   baseline: {x, y} or null, budgets: [{metric, bound, text}], chosen: {x, y, number} or null
 * }
 */
export class ParetoPlot {
  constructor(host, { height = 470, label, onOpen, describePoint }) {
    this.frame = new Frame(host, { height, label, redraw: () => this.draw() });
    this.explorer = new Explorer(this, { onOpen, describePoint });
    this.zoom = null;
    this.log = false;
    this.data = null;
  }

  show(data) {
    const moved = this.data && (this.data.x.metric !== data.x.metric || this.data.y.metric !== data.y.metric);
    if (moved) this.zoom = null;
    this.data = data;
    this.draw();
  }

  close() {
    this.frame.close();
  }

  draw() {
    if (!this.data) return;
    const { data, frame } = this;
    const { x, y } = this.zoom ?? this.#ranges();
    frame.begin(
      Frame.axis(data.x.metric, x, { log: this.log && x[0] > 0, base: this.#shareBase() }),
      Frame.axis(data.y.metric, y),
    );
    const place = (points) =>
      points.filter((p) => this.#inside(p)).map((p) => ({ ...p, px: frame.sx(p.x), py: frame.sy(p.y) }));
    const placed = { front: [], others: [], marks: [] };
    data.series.forEach((one, at) => placed.others.push(...this.#others(place(one.others), one, at)));
    data.marks.forEach((one, at) => placed.marks.push(...this.#marks(place(one.points), one, at)));
    data.budgets.forEach((budget) => this.#budget(budget));
    data.series.forEach((one, at) => placed.front.push(...this.#front(one, place(one.front), at)));
    this.#special();
    this.explorer.found(placed);
    this.#hidden();
  }

  /** Both ranges: all of the front and the baseline, and as much of the rest as does not squeeze them. */
  #ranges() {
    const { data } = this;
    const labelled = data.marks.flatMap((one) => one.points.filter((point) => point.label));
    const base = data.baseline ? [data.baseline] : [];
    const important = [...data.series.flatMap((one) => one.front), ...labelled, ...base];
    const all = [...important, ...data.series.flatMap((one) => one.others), ...data.marks.flatMap((one) => one.points)];
    if (!all.length) return { x: [0, 1], y: [0, 1] };
    const ys = all.map((p) => p.y);
    const shown = important.length
      ? visibleRange(
          ys,
          important.map((p) => p.y),
          data.y.direction,
        )
      : padded(extent(ys));
    const [low, high] = extent(all.map((p) => p.x));
    const bent = this.log && low > 0;
    return { x: bent ? [low / (high / low) ** 0.04, high * (high / low) ** 0.04] : padded([low, high]), y: shown };
  }

  #shareBase() {
    const { x, baseline } = this.data;
    return baseline && x.kind !== "fraction" && x.direction === "min" ? baseline.x : 0;
  }

  #inside(point) {
    const [xs, ys] = [this.frame.sx.domain, this.frame.sy.domain];
    return point.x >= xs[0] && point.x <= xs[1] && point.y >= ys[0] && point.y <= ys[1];
  }

  #others(points, one, at) {
    const path = dots(
      points.map((p) => p.px),
      points.map((p) => p.py),
    );
    this.frame.plane.append(s("path", { class: `others series${at}`, d: path, "stroke-width": DOT }));
    const squares = one.uniform
      .filter((p) => this.#inside(p))
      .map((p) => square(this.frame.sx(p.x), this.frame.sy(p.y), 4.5));
    if (squares.length) this.frame.plane.append(s("path", { class: "uniform", d: squares.join("") }));
    return points.map((p) => ({ ...p, series: one.name }));
  }

  #marks(points, one, at) {
    const draw = SHAPES[one.shape] ?? diamond;
    const path = points.map((p) => draw(p.px, p.py, 3.6)).join("");
    this.frame.plane.append(s("path", { class: `mark mark${at} ${one.shape ?? ""}`, d: path }));
    for (const p of points.filter((point) => point.label)) {
      this.frame.plane.append(s("text", { class: "note", x: p.px + 8, y: p.py + 4 }, p.label));
    }
    return points.map((p) => ({ ...p, series: one.name, mark: true }));
  }

  #front(one, points, at) {
    const { sx, sy } = this.frame;
    const all = one.front;
    const rising = this.data.x.direction === "min";
    const line = steps(
      all.map((p) => sx(p.x)),
      all.map((p) => sy(p.y)),
      { before: !rising },
    );
    this.frame.plane.append(
      s("path", { class: `front series${at}`, d: line }),
      s("path", {
        class: `members series${at}`,
        d: dots(
          points.map((p) => p.px),
          points.map((p) => p.py),
        ),
      }),
    );
    return points.map((p) => ({ ...p, series: one.name, front: true }));
  }

  #special() {
    const { data, frame } = this;
    for (const fresh of data.fresh ?? []) {
      if (this.#inside(fresh))
        frame.plane.append(s("circle", { class: "fresh", cx: frame.sx(fresh.x), cy: frame.sy(fresh.y), r: 9 }));
    }
    if (data.baseline && this.#inside(data.baseline)) {
      frame.plane.append(
        s("path", { class: "baseline", d: star(frame.sx(data.baseline.x), frame.sy(data.baseline.y), 10) }),
      );
    }
    if (data.opened && this.#inside(data.opened)) {
      const [px, py] = [frame.sx(data.opened.x), frame.sy(data.opened.y)];
      frame.plane.append(s("circle", { class: "opened", cx: px, cy: py, r: 8 }));
    }
    if (data.chosen && this.#inside(data.chosen)) {
      const [px, py] = [frame.sx(data.chosen.x), frame.sy(data.chosen.y)];
      frame.plane.append(
        s("circle", { class: "chosen", cx: px, cy: py, r: 10 }),
        s("circle", { class: "chosen dot", cx: px, cy: py, r: 5 }),
      );
    }
  }

  #budget({ metric, bound, text }) {
    const { area, plane, sx, sy } = this.frame;
    if (metric === this.data.x.metric && bound <= sx.domain[1]) {
      const px = sx(bound);
      plane.append(
        s("path", { class: "budget", d: `M${px} ${area.top}V${area.bottom}` }),
        s("text", { class: "note", transform: `translate(${px - 5} ${area.bottom - 8}) rotate(-90)` }, text),
      );
    } else if (metric === this.data.y.metric && bound >= sy.domain[0]) {
      const py = sy(bound);
      plane.append(
        s("path", { class: "budget", d: `M${area.left} ${py}H${area.right}` }),
        s("text", { class: "note", x: area.left + 6, y: py - 5 }, text),
      );
    }
  }

  /** Trials far worse than the front are outside of the range: say how many. */
  #hidden() {
    if (this.zoom) return;
    const { sy, area } = this.frame;
    const outside = this.data.series
      .flatMap((one) => one.others)
      .filter((p) => p.y < sy.domain[0] || p.y > sy.domain[1]).length;
    if (!outside) return;
    const up = this.data.y.direction === "min";
    const text = `${plural(outside, "drawn trial")} ${up ? "above" : "below"} this range`;
    this.frame.svg.append(
      s("text", { class: "note", x: area.left + 8, y: up ? area.top + 14 : area.bottom - 8 }, text),
    );
  }
}
