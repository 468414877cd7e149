// What was asked for: the resolved configuration, and how to run it again.

import { h, put } from "../dom.js";

export async function open(place, page) {
  const { record } = page;
  put(
    place,
    h(
      "section",
      { "aria-label": "Configuration" },
      h(
        "dl",
        { class: "facts" },
        h("dt", {}, "configuration"),
        h("dd", {}, record.digest),
        h("dt", {}, "evaluation"),
        h("dd", {}, record.evaluation_digest),
      ),
      h(
        "p",
        { class: "note" },
        "Trials of searches with the same digest of the evaluation are comparable measurements.",
      ),
      h("pre", { tabindex: "0" }, JSON.stringify(record.config, null, 2)),
    ),
  );
  return {};
}
