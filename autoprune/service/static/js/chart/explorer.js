// Pointer and keyboard on a scatter: hover shows a trial, a click opens it, dragging zooms, arrow keys walk the front.

import { announce, h, put, s } from "../dom.js";

const NEAR = 26;

export class Explorer {
  /** `describePoint(point)`: elements for the tooltip, or a promise of them; `onOpen(point)`. */
  constructor(plot, { onOpen, describePoint }) {
    this.plot = plot;
    this.onOpen = onOpen;
    this.describe = describePoint;
    this.points = [];
    this.walked = -1;
    this.tip = h("div", { class: "tip", role: "status", hidden: true });
    this.reset = h(
      "button",
      { type: "button", class: "small quiet reset", hidden: true, on: { click: () => this.#zoom(null) } },
      "Reset zoom",
    );
    const { host, svg } = plot.frame;
    host.append(this.tip, this.reset);
    svg.setAttribute("tabindex", "0");
    svg.setAttribute("role", "application");
    svg.setAttribute("aria-roledescription", "scatter plot");
    this.#listen(svg);
  }

  /** The points that were drawn, with their places; called after each drawing. */
  found({ front, others, marks }) {
    this.front = front;
    this.points = [...front, ...marks, ...others];
    this.ring = s("circle", { class: "ring", r: 8, visibility: "hidden" });
    this.band = s("rect", { class: "band", visibility: "hidden" });
    this.plot.frame.svg.append(this.band, this.ring);
    this.reset.hidden = !this.plot.zoom;
    if (this.shown) this.#point(this.points.find((p) => same(p, this.shown)) ?? null);
  }

  #listen(svg) {
    svg.addEventListener("pointermove", (event) => this.#move(event));
    svg.addEventListener("pointerleave", () => {
      if (!this.start) this.#point(null);
    });
    svg.addEventListener("pointerdown", (event) => {
      if (event.button === 0 && event.pointerType === "mouse") this.start = this.#at(event);
    });
    svg.addEventListener("pointerup", (event) => this.#up(event));
    svg.addEventListener("pointercancel", () => {
      this.start = null;
    });
    svg.addEventListener("dblclick", () => this.#zoom(null));
    svg.addEventListener("keydown", (event) => this.#key(event));
    svg.addEventListener("blur", () => this.#point(null));
  }

  #at(event) {
    const box = this.plot.frame.svg.getBoundingClientRect();
    const factor = this.plot.frame.width / box.width;
    return { x: (event.clientX - box.left) * factor, y: (event.clientY - box.top) * factor };
  }

  #nearest({ x, y }) {
    let best = null,
      least = NEAR * NEAR;
    for (const point of this.points) {
      // ties and near ties go to the front, which is drawn on top
      const distance = (point.px - x) ** 2 + (point.py - y) ** 2 - (point.front ? 30 : 0);
      if (distance < least) [best, least] = [point, distance];
    }
    return best;
  }

  #move(event) {
    if (!this.ring) return;
    const at = this.#at(event);
    if (this.start && Math.hypot(at.x - this.start.x, at.y - this.start.y) > 8) {
      this.#point(null);
      const box = rectangle(this.start, at);
      for (const [name, value] of Object.entries(box)) this.band.setAttribute(name, value);
      this.band.setAttribute("visibility", "visible");
    } else {
      this.#point(this.#nearest(at));
    }
  }

  #up(event) {
    if (!this.ring) return undefined;
    const [start, end] = [this.start, this.#at(event)];
    this.start = null;
    this.band.setAttribute("visibility", "hidden");
    const { sx, sy } = this.plot.frame;
    if (start && Math.abs(end.x - start.x) > 12 && Math.abs(end.y - start.y) > 12) {
      const { x, y, width, height } = rectangle(start, end);
      return this.#zoom({ x: [sx.invert(x), sx.invert(x + width)], y: [sy.invert(y + height), sy.invert(y)] });
    }
    const point = this.#nearest(end);
    if (point) this.onOpen(point);
    return undefined;
  }

  #zoom(range) {
    this.plot.zoom = range;
    this.#point(null);
    this.plot.draw();
  }

  #key(event) {
    const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
    if (step && this.front.length) {
      this.walked = Math.min(this.front.length - 1, Math.max(0, this.walked + step));
      this.#point(this.front[this.walked], true);
    } else if (event.key === "Home" || event.key === "End") {
      this.walked = event.key === "Home" ? 0 : this.front.length - 1;
      this.#point(this.front[this.walked] ?? null, true);
    } else if (event.key === "Enter" && this.shown) {
      this.onOpen(this.shown);
    } else if (event.key === "Escape") {
      if (this.plot.zoom) this.#zoom(null);
      this.#point(null);
    } else {
      return;
    }
    event.preventDefault();
  }

  async #point(point, aloud = false) {
    if (!this.ring) return undefined;
    const again = point && this.shown && same(point, this.shown);
    this.shown = point;
    this.ring.setAttribute("visibility", point ? "visible" : "hidden");
    if (!point) {
      this.tip.hidden = true;
      return;
    }
    this.ring.setAttribute("cx", point.px);
    this.ring.setAttribute("cy", point.py);
    if (again && !this.tip.hidden) return this.#place(point);
    const content = await this.describe(point);
    if (this.shown !== point || !content) return undefined;
    put(this.tip, content);
    this.tip.hidden = false;
    this.#place(point);
    if (aloud) announce(this.tip.innerText.replace(/\s+/g, " "), "point");
    return undefined;
  }

  #place(point) {
    const { width, area } = this.plot.frame;
    const [wide, high] = [this.tip.offsetWidth, this.tip.offsetHeight];
    const left = point.px + 16 + wide > width ? Math.max(0, point.px - wide - 16) : point.px + 16;
    const top = Math.max(area.top - 30, Math.min(point.py - high / 2, area.bottom - high));
    this.tip.style.setProperty("transform", `translate(${left}px, ${Math.max(0, top)}px)`);
  }
}

function rectangle(a, b) {
  return { x: Math.min(a.x, b.x), y: Math.min(a.y, b.y), width: Math.abs(a.x - b.x), height: Math.abs(a.y - b.y) };
}

function same(a, b) {
  return a.number === b.number && a.series === b.series;
}
