// Convergence: how the hypervolume of the front grew, by trial and by time.

import { get } from "../api.js";
import { StepPlot } from "../chart/lines.js";
import { h, put, redone, table } from "../dom.js";
import { duration, plural, significant, value } from "../format.js";
import { complaint } from "./messages.js";

const percentage = (share) => (share === null ? "-" : `${significant(100 * share, 4)} %`);

export async function open(place, page) {
  const byTrial = h("div"),
    byTime = h("div"),
    words = h("div"),
    states = h("div", { class: "narrow" }),
    trouble = h("div");
  const y = { title: "hypervolume (share)", kind: "fraction", least: 0 };
  const trials = new StepPlot(byTrial, {
    label: "Hypervolume by trial",
    readout: (x, [one]) => `after trial ${Math.floor(x)}: ${percentage(one.y)}`,
  });
  const times = new StepPlot(byTime, {
    label: "Hypervolume by time",
    readout: (x, [one]) => `after ${duration(x)}: ${percentage(one.y)}`,
  });

  async function refresh() {
    try {
      const found = await get(["searches", page.name, "history"]);
      const xs = found.trial.map((number) => number + 1);
      trials.show({
        x: { title: "trials", kind: "plain" },
        y,
        series: [{ name: page.name, xs, ys: found.share }],
        end: page.record.trials,
      });
      const timed = found.seconds
        .map((seconds, at) => [seconds, found.share[at]])
        .filter(([seconds]) => seconds !== null)
        .sort((a, b) => a[0] - b[0]);
      times.show({
        x: { title: "seconds since the first trial began", kind: "plain" },
        y,
        series: [
          { name: page.name, xs: timed.map(([seconds]) => seconds), ys: highest(timed.map(([, share]) => share)) },
        ],
      });
      redone(words, sentences(found), details(found));
      put(states, counts(page.record));
      put(trouble);
    } catch (error) {
      put(trouble, complaint(error));
    }
  }

  put(
    place,
    trouble,
    h(
      "div",
      { class: "halves" },
      h("section", { "aria-label": "By trial" }, byTrial),
      h("section", { "aria-label": "By time" }, byTime),
    ),
    words,
    h("h2", {}, "Trials by state"),
    states,
  );
  await refresh();
  return {
    refresh,
    close: () => {
      trials.close();
      times.close();
    },
  };
}

/** Trials may finish out of order: what holds at a time is the best until then. */
function highest(shares) {
  let best = 0;
  return shares.map((share) => (best = Math.max(best, share)));
}

function sentences(found) {
  if (!found.trial.length) return h("p", { class: "note" }, "No complete trial yet.");
  const last = found.share.at(-1);
  const reached = (part) => found.trial[found.share.findIndex((share) => share >= part * last)] + 1;
  const reference = Object.entries(found.reference)
    .map(([name, at]) => `${name} ${value(name, at)}`)
    .join(", ");
  return h(
    "p",
    { class: "note" },
    `90 % of today's hypervolume was reached after ${plural(reached(0.9), "trial")}, 99 % after ${plural(reached(0.99), "trial")}. `,
    `The hypervolume is a share of the box between the best value of each metric and the reference point (${reference}).`,
  );
}

function details(found) {
  const rows = found.trial.map((number, at) => [
    number,
    percentage(found.share[at]),
    found.seconds[at] === null ? "-" : duration(found.seconds[at]),
  ]);
  const shown = rows.length > 400 ? [...rows.slice(0, 200), ...rows.slice(-200)] : rows;
  return h(
    "details",
    {},
    h("summary", {}, `The trials that moved the front (${found.trial.length.toLocaleString("en")})`),
    table("Trials that moved the front", [{ label: "trial" }, { label: "share" }, { label: "after" }], shown),
    shown.length < rows.length ? h("p", { class: "note" }, "The first and the last 200.") : null,
  );
}

function counts(record) {
  const entries = Object.entries(record.trial_counts).filter(([, count]) => count);
  if (!entries.length) return h("p", { class: "note" }, "None yet.");
  const total = entries.reduce((sum, [, count]) => sum + count, 0);
  return table(
    "Trials by state",
    [{ label: "state" }, { label: "trials" }, { label: "share" }],
    entries.map(([state, count]) => [
      h("a", { href: `#/search/${encodeURIComponent(record.name)}/trials?state=${state}` }, state),
      count.toLocaleString("en"),
      `${significant((100 * count) / total, 3)} %`,
    ]),
  );
}
