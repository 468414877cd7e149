// What every chart has: an SVG as wide as its place, grid, axes with names, and a clipped plane for the data.

import { s } from "../dom.js";
import { describe, tick } from "../format.js";
import { logTicks, scale, ticks } from "./scale.js";

let frames = 0;

export class Frame {
  /** `host`: an empty element; `redraw`: called when the width has changed. */
  constructor(host, { height, label, redraw }) {
    this.host = host;
    this.id = `frame${++frames}`;
    this.wanted = height;
    this.svg = s("svg", { class: "chart", role: "img", "aria-label": label });
    host.classList.add("plot");
    host.append(this.svg);
    this.watch = new ResizeObserver(() => {
      if (Math.abs(host.clientWidth - (this.width ?? 0)) > 1) redraw();
    });
    this.watch.observe(host);
  }

  /**
   * Begin anew. `x`, `y`: {domain, kind, title, log, base}; `base`: the baseline's value, for a second axis in percent.
   * Leaves `sx`, `sy` (scales) and `plane` (a group that is clipped to the axes).
   */
  begin(x, y) {
    this.width = Math.max(240, this.host.clientWidth);
    this.height = this.width < 520 ? Math.round(this.wanted * 0.78) : this.wanted;
    const top = x.base > 0 ? 44 : 14;
    this.area = { left: 62, right: this.width - 14, top, bottom: this.height - 46 };
    const { left, right, bottom } = this.area;
    this.sx = scale(x.domain, [left, right], x.log);
    this.sy = scale(y.domain, [bottom, top], y.log);
    this.svg.setAttribute("viewBox", `0 0 ${this.width} ${this.height}`);
    this.svg.setAttribute("height", this.height);
    const clip = s(
      "clipPath",
      { id: this.id },
      s("rect", { x: left, y: top - 8, width: right - left + 8, height: bottom - top + 8 }),
    );
    this.plane = s("g", { "clip-path": `url(#${this.id})` });
    this.svg.replaceChildren(s("defs", {}, clip), this.#grid(x, y), this.plane);
    return this;
  }

  #grid(x, y) {
    const { left, right, top, bottom } = this.area;
    const across = Math.max(3, Math.floor((right - left) / 95)),
      down = Math.max(3, Math.floor((bottom - top) / 55));
    const group = s("g", { class: "axes", "aria-hidden": "true" });
    for (const at of x.log ? logTicks(...x.domain, across) : ticks(...x.domain, across)) {
      const px = this.sx(at);
      group.append(
        s("line", { class: "grid", x1: px, x2: px, y1: top, y2: bottom }),
        s("text", { x: px, y: bottom + 18, "text-anchor": "middle" }, tick(at, x.kind)),
      );
    }
    for (const at of ticks(...y.domain, down)) {
      const py = this.sy(at);
      group.append(
        s("line", { class: "grid", x1: left, x2: right, y1: py, y2: py }),
        s("text", { x: left - 8, y: py + 4, "text-anchor": "end" }, tick(at, y.kind)),
      );
    }
    group.append(
      s("path", { class: "spine", d: `M${left} ${top}V${bottom}H${right}` }),
      s("text", { class: "title", x: (left + right) / 2, y: this.height - 6, "text-anchor": "middle" }, x.title),
      s(
        "text",
        { class: "title", transform: `translate(13 ${(top + bottom) / 2}) rotate(-90)`, "text-anchor": "middle" },
        y.title,
      ),
    );
    if (x.base > 0) this.#shares(group, x, across);
    return group;
  }

  #shares(group, x, across) {
    const { left, right, top } = this.area;
    const [low, high] = x.domain.map((at) => (100 * at) / x.base);
    for (const at of x.log ? logTicks(low, high, across) : ticks(low, high, across)) {
      const px = this.sx((at * x.base) / 100);
      if (px < left - 1 || px > right + 1) continue;
      group.append(s("text", { x: px, y: top - 10, "text-anchor": "middle" }, `${Number(at.toPrecision(4))} %`));
    }
    group.append(
      s("text", { class: "note", x: right, y: top - 29, "text-anchor": "end" }, `of the baseline's ${x.name}`),
    );
  }

  /** An axis for `begin` from a metric's name and a range. */
  static axis(metric, domain, extra = {}) {
    const { label, kind } = describe(metric);
    const title = metric === "macs" ? "MACs (multiply-accumulates at batch 1)" : label;
    return { domain, kind, title, name: label, ...extra };
  }

  close() {
    this.watch.disconnect();
    this.host.replaceChildren();
  }
}

/** Path data of many dots: lines of no length with round ends, one element however many there are. */
export function dots(xs, ys) {
  let path = "";
  for (let at = 0; at < xs.length; at++) path += `M${xs[at].toFixed(1)} ${ys[at].toFixed(1)}h0`;
  return path;
}

/** Path data of a step line: what is attained at a cost is what the last cheaper point attains. */
export function steps(xs, ys, { before = false } = {}) {
  let path = xs.length ? `M${xs[0].toFixed(1)} ${ys[0].toFixed(1)}` : "";
  for (let at = 1; at < xs.length; at++) {
    path += before ? `V${ys[at].toFixed(1)}H${xs[at].toFixed(1)}` : `H${xs[at].toFixed(1)}V${ys[at].toFixed(1)}`;
  }
  return path;
}

/** Path data of a five-pointed star around a place. */
export function star(x, y, radius) {
  let path = "";
  for (let at = 0; at < 10; at++) {
    const size = at % 2 ? radius * 0.42 : radius,
      angle = (Math.PI * at) / 5 - Math.PI / 2;
    path += `${at ? "L" : "M"}${(x + size * Math.cos(angle)).toFixed(1)} ${(y + size * Math.sin(angle)).toFixed(1)}`;
  }
  return `${path}Z`;
}

/** Path data of a square around a place. */
export function square(x, y, radius) {
  return `M${(x - radius).toFixed(1)} ${(y - radius).toFixed(1)}h${2 * radius}v${2 * radius}h${-2 * radius}Z`;
}

/** Path data of a diamond around a place. */
export function diamond(x, y, radius) {
  return `M${x.toFixed(1)} ${(y - radius).toFixed(1)}l${radius} ${radius}l${-radius} ${radius}l${-radius} ${-radius}Z`;
}

/** Path data of a triangle around a place. */
export function triangle(x, y, radius) {
  return `M${x.toFixed(1)} ${(y - radius - 1).toFixed(1)}l${radius + 1} ${2 * radius}h${-2 * (radius + 1)}Z`;
}
