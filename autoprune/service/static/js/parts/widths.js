// Channels kept in each group, as bars against the baseline.

import { h, percent } from "../dom.js";

/** groups: [{group, width, channels}] in the order of the network. */
export function widthBars(groups, { tiny = false } = {}) {
  return h(
    "div",
    {
      class: tiny ? "bars tiny" : "bars",
      role: tiny ? null : "list",
      "aria-label": tiny ? null : "Channels kept by group",
    },
    groups.map(({ group, width, channels }) =>
      tiny
        ? [name(group), bar(width, channels), h("span", { class: "count" }, width)]
        : h(
            "div",
            { role: "listitem", class: "row" },
            name(group),
            bar(width, channels),
            h("span", { class: "count" }, `${width} / ${channels}`),
          ),
    ),
  );
}

function name(group) {
  return h("span", { class: "name", title: group }, group);
}

function bar(width, channels) {
  return h(
    "span",
    { class: "track", "aria-hidden": "true" },
    percent(h("span", { class: "fill" }), channels ? width / channels : 0),
  );
}
