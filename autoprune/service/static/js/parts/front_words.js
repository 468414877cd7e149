// A front in words: what the marks mean, and its members as a table.

import { h, s, table } from "../dom.js";
import { dots, square, star } from "../chart/frame.js";
import { SHAPES } from "../chart/pareto.js";
import { describe, ordered, plural, share, value } from "../format.js";

/** What is drawn, mark by mark. */
export function legend(data, front) {
  const one = data.series[0];
  const shown = one.others.length;
  const thinned =
    shown < front.others.total
      ? `${shown.toLocaleString("en")} of ${plural(front.others.total, "other trial")}`
      : plural(shown, "other trial");
  return h(
    "ul",
    { class: "legend" },
    entry(
      s("path", { class: "front", d: "M1 8H21" }),
      s("path", { class: "members", d: dots([11], [8]) }),
      `Pareto front (${plural(one.front.length, "trial")})`,
    ),
    shown ? entry(s("path", { class: "others", d: dots([11], [8]), "stroke-width": 5 }), thinned) : null,
    one.uniform.length ? entry(s("path", { class: "uniform", d: square(11, 8, 4.5) }), "uniform widths") : null,
    data.marks.map((mark, at) =>
      entry(s("path", { class: `mark mark${at} ${mark.shape}`, d: SHAPES[mark.shape](11, 8, 4.5) }), mark.name),
    ),
    data.baseline ? entry(s("path", { class: "baseline", d: star(11, 8, 8) }), "baseline (unpruned)") : null,
    data.chosen
      ? entry(s("circle", { class: "chosen", cx: 11, cy: 8, r: 6 }), `selected (trial ${data.chosen.number})`)
      : null,
  );
}

function entry(...parts) {
  const text = parts.pop();
  return h("li", {}, s("svg", { width: 22, height: 16, "aria-hidden": "true" }, parts), text);
}

/** The members as a table, cheapest first, the baseline last; it is made when it is opened. */
export function frontTable(front, onOpen) {
  const place = h("div");
  const opened = (event) => {
    if (event.target.open && !place.childElementCount) place.append(rows(front, onOpen));
  };
  const summary = h("summary", {}, `The front as a table (${plural(front.front.length, "trial")})`);
  return h("details", { on: { toggle: opened } }, summary, place);
}

function rows(front, onOpen) {
  const names = shownMetrics(front);
  const cost = front.axes[0].metric;
  const columns = [
    { label: "trial" },
    ...names.map((name) => ({ label: name, title: describe(name).label })),
    { label: `of the baseline's ${cost}` },
  ];
  const members = front.front.map((trial) => [
    h("button", { type: "button", class: "small", on: { click: () => onOpen(trial.number) } }, trial.number),
    ...names.map((name) => value(name, trial.metrics[name])),
    share(trial.metrics[cost], front.baseline[cost]),
  ]);
  const base = ["baseline", ...names.map((name) => value(name, front.baseline[name])), "100 %"];
  return table("Trials on the front", columns, [...members, base]);
}

function shownMetrics(front) {
  const first = front.front[0]?.metrics ?? front.baseline;
  const own = front.axes.map((axis) => axis.metric);
  const usual = ["top1", "test_top1", "macs", "params", "latency_ms", "weight_bytes"].filter((name) => name in first);
  return ordered([...own, ...usual]);
}
