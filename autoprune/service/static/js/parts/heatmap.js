// Widths over the front: groups down, members across from the cheapest to the dearest, as a table of coloured cells.

import { get } from "../api.js";
import { h, put } from "../dom.js";
import { value } from "../format.js";
import { candidateCard } from "./candidate.js";
import { complaint } from "./messages.js";

const MOST_COLUMNS = 48;
const NUMBERS_UP_TO = 30;

export async function open(place, page) {
  const grid = h("div"),
    card = h("div"),
    lead = h("p", { class: "note" });

  async function refresh() {
    try {
      const front = await get(["searches", page.name, "front"]);
      const [cost, quality] = front.axes.map((axis) => axis.metric);
      const members = sample(front.front, MOST_COLUMNS);
      const some =
        members.length < front.front.length
          ? ` ${members.length} of its ${front.front.length.toLocaleString("en")} members are shown, evenly spread.`
          : "";
      lead.textContent = `The share of channels that each member of the front of ${quality} against ${cost} keeps, from the cheapest on the left to the dearest on the right.${some}`;
      put(
        grid,
        members.length
          ? heat(members, page.record.channels, front, show)
          : h("p", { class: "empty" }, "No trial is on the front yet."),
      );
    } catch (error) {
      put(grid, complaint(error));
    }
  }

  async function show(number) {
    await candidateCard(card, page, page.name, number, () => put(card));
    card.scrollIntoView({ behavior: "smooth", block: "nearest" });
  }

  const key = h("p", { class: "note key" }, "0 %", h("span", { class: "ramp", "aria-hidden": "true" }), "all channels");
  put(place, h("section", { "aria-label": "Widths over the front" }, lead, key, grid), card);
  await refresh();
  return { refresh };
}

function heat(members, channels, front, onOpen) {
  const groups = Object.keys(channels).length ? Object.keys(channels) : Object.keys(members[0].widths);
  const full = (group) => channels[group] ?? Math.max(...members.map((trial) => trial.widths[group] ?? 0));
  const said = (trial) =>
    front.axes
      .map(({ metric }) => value(metric, trial.metrics[metric]))
      .reverse()
      .join(", ");
  const head = members.map((trial) =>
    h(
      "th",
      { scope: "col" },
      h(
        "button",
        { type: "button", title: `trial ${trial.number}: ${said(trial)}`, on: { click: () => onOpen(trial.number) } },
        trial.number,
      ),
    ),
  );
  const rows = groups.map((group) =>
    h(
      "tr",
      {},
      h("th", { scope: "row", title: group }, group),
      members.map((trial) => cell(group, trial, full(group), members.length)),
    ),
  );
  return h(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": "Widths over the front" },
    h(
      "table",
      { class: "heat" },
      h("caption", { class: "hidden" }, "Channels kept by group (rows) and trial on the front (columns)"),
      h("thead", {}, h("tr", {}, h("th", {}, "trial"), head)),
      h("tbody", {}, rows),
    ),
  );
}

function cell(group, trial, channels, columns) {
  const width = trial.widths[group] ?? channels;
  const share = channels ? width / channels : 0;
  const found = h(
    "td",
    { class: share > 0.55 ? "dark" : null, title: `${group}, trial ${trial.number}: ${width} of ${channels}` },
    columns <= NUMBERS_UP_TO ? String(width) : h("span", { class: "hidden" }, width),
  );
  found.style.setProperty("--share", `${(100 * share).toFixed(1)}%`);
  return found;
}

/** At most `most` of a list, evenly spread, both ends among them. */
function sample(list, most) {
  if (list.length <= most) return list;
  return Array.from({ length: most }, (_, at) => list[Math.round((at * (list.length - 1)) / (most - 1))]);
}
