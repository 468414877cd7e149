// What the tooltip of a trial says: its numbers, and its widths as small bars.

import { get } from "../api.js";
import { h } from "../dom.js";
import { share, value } from "../format.js";
import { widthBars } from "./widths.js";

const MOST_GROUPS = 18;
const known = new Map();

/** Elements about a point; widths of trials off the front are asked for when they are hovered. */
export async function pointTip(page, front, point) {
  if (point.preset) return tipOf(point.preset, front, "", page.record.channels, point.label);
  const search = point.search ?? page.name;
  let trial = point.mark ? null : front.front.find((each) => each.number === point.number);
  if (!trial) {
    trial = await looked(search, point.number).catch(() => null);
    if (!trial) return h("b", {}, `trial ${point.number}`);
  }
  return tipOf(trial, front, search === page.name ? "" : search, page.record.channels);
}

/** The same for a trial that is at hand. */
export function tipOf(trial, front, search, channels, title = `trial ${trial.number}`) {
  const names = [...new Set([...front.axes.map((axis) => axis.metric).reverse(), "params", "latency_ms"])].filter(
    (name) => Number.isFinite(trial.metrics[name]),
  );
  const cost = front.axes[0].metric;
  const pairs = names.map((name) => [
    h("dt", {}, name),
    h(
      "dd",
      {},
      value(name, trial.metrics[name]) +
        (name === cost ? ` (${share(trial.metrics[name], front.baseline[name])})` : ""),
    ),
  ]);
  const groups = Object.entries(trial.widths)
    .slice(0, MOST_GROUPS)
    .map(([group, width]) => ({ group, width, channels: channels[group] ?? width }));
  const more = Object.keys(trial.widths).length - groups.length;
  return [
    h("b", {}, search ? `${search}, ${title}` : title),
    h("dl", {}, pairs),
    widthBars(groups, { tiny: true }),
    more > 0 ? h("span", { class: "note" }, `and ${more} more groups`) : null,
  ];
}

async function looked(search, number) {
  const key = `${search}/${number}`;
  if (!known.has(key)) {
    if (known.size > 500) known.clear();
    known.set(
      key,
      get(["searches", search, "trials", number]).then((body) => body.trial),
    );
    known.get(key).catch(() => known.delete(key));
  }
  return known.get(key);
}
