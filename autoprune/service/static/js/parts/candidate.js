// One candidate: widths against the baseline, metrics, where it comes from, and its model to take home.

import { get } from "../api.js";
import { h, put, table } from "../dom.js";
import { describe, duration, moment, ordered, share, value } from "../format.js";
import { downloads } from "./downloads.js";
import { badge, complaint } from "./messages.js";
import { widthBars } from "./widths.js";

/** Fill `place` with trial `number` of `search`. */
export async function candidateCard(place, page, search, number, onClose) {
  let body;
  try {
    body = await get(["searches", search, "trials", number]);
  } catch (error) {
    put(place, complaint(error));
    return;
  }
  const { trial } = body;
  const title = search === page.name ? `Trial ${number}` : `${search}, trial ${number}`;
  put(
    place,
    h(
      "section",
      { class: "candidate", "aria-label": title },
      h(
        "div",
        { class: "head" },
        h("h2", { tabindex: "-1" }, title),
        badge(trial.state),
        h(
          "div",
          { class: "buttons" },
          h("button", { type: "button", class: "small", on: { click: onClose } }, "Close"),
        ),
      ),
      trial.reason ? h("p", { class: "error" }, trial.reason) : null,
      h(
        "div",
        { class: "halves" },
        h("div", {}, h("h3", {}, "Channels kept, of the baseline's"), widthBars(body.groups)),
        h("div", {}, metrics(body), body.exportable ? downloads(search, number) : null, facts(body)),
      ),
    ),
  );
}

function metrics({ trial, baseline }) {
  const names = ordered([...Object.keys(trial.metrics), ...Object.keys(baseline)]).filter(
    (name) => name in trial.metrics,
  );
  if (!names.length) return h("p", { class: "note" }, "Nothing was measured.");
  const columns = [{ label: "metric" }, { label: "trial" }, { label: "baseline" }, { label: "share" }];
  const rows = names.map((name) => [
    h("span", { title: describe(name).label }, name),
    value(name, trial.metrics[name]),
    value(name, baseline[name]),
    ["count", "ms", "bytes"].includes(describe(name).kind) ? share(trial.metrics[name], baseline[name]) : "",
  ]);
  return table("Metrics beside the baseline", columns, rows);
}

function facts({ trial, digest, evaluation_digest: evaluation }) {
  const seconds = Object.entries(trial.timings).map(([phase, spent]) => `${phase} ${duration(spent)}`);
  const note = Object.entries(trial.note).map(
    ([key, said]) => `${key}: ${typeof said === "string" ? said : JSON.stringify(said)}`,
  );
  const pairs = {
    "proposed with": note.join(", "),
    "measured by": trial.worker,
    attempt: trial.attempt > 1 ? trial.attempt : "",
    "looked up from": trial.duplicate_of,
    "where the time went": seconds.join(", "),
    started: trial.started_at ? moment(trial.started_at) : "",
    finished: trial.finished_at ? moment(trial.finished_at) : "",
    "digest of the widths": trial.digest,
    configuration: digest,
    evaluation,
  };
  return h(
    "dl",
    { class: "facts" },
    Object.entries(pairs)
      .filter(([, text]) => text)
      .map(([name, text]) => [h("dt", {}, name), h("dd", {}, text)]),
  );
}
