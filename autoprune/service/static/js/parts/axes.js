// Which metrics a plot may have on its axes, and a choice among them.

import { h } from "../dom.js";
import { describe, ordered } from "../format.js";

/** A metric with the direction that the search gives it: `psnr max`; by itself where it is no objective. */
function directed(name, objectives) {
  return objectives.find((text) => text.split(" ")[0] === name) ?? name;
}

function fits(key, name, objectives) {
  const { direction, kind } = describe(name);
  const way = directed(name, objectives).split(" ")[1] ?? direction;
  return key === "y" ? way === "max" || kind === "plain" : way === "min";
}

/** The axis that a search has by itself: its first objective that fits, as the server reads it. */
export function ownAxis(key, objectives) {
  const texts = objectives.map((text) => text.split(" "));
  const quality = texts.find(([, way]) => way === "max") ?? texts.find(([name]) => describe(name).kind === "plain");
  const found = key === "y" ? quality : texts.find((text) => text !== quality);
  return found?.join(" ") ?? (key === "y" ? "top1" : "macs");
}

/** A labelled choice of metrics for the axis `key` (x: cost, y: quality); `changed(text)`. */
export function axisChoice({ label, key, metrics, objectives, chosen, changed }) {
  const current = chosen.split(" ")[0];
  const names = ordered([...metrics.filter((name) => fits(key, name, objectives)), current]);
  const options = names.map((name) =>
    h("option", { value: directed(name, objectives), selected: name === current }, describe(name).label),
  );
  const change = (event) => changed(event.target.value);
  return h("label", {}, label, h("select", { "aria-label": label, on: { change } }, options));
}
