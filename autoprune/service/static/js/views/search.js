// One search: its state and actions, and tabs that follow it as it runs.

import { get } from "../api.js";
import { announce, h, percent, put } from "../dom.js";
import { moment } from "../format.js";
import { actions } from "../parts/actions.js";
import { gathered, watch } from "../parts/live.js";
import { badge, complaint } from "../parts/messages.js";

const TABS = {
  front: ["Front", () => import("../parts/front.js")],
  progress: ["Convergence", () => import("../parts/progress.js")],
  widths: ["Widths", () => import("../parts/heatmap.js")],
  trials: ["Trials", () => import("../parts/trials.js")],
  log: ["Log", () => import("../parts/log.js")],
  inheriting: ["Inheriting", () => import("../parts/rethinking.js")],
  config: ["Configuration", () => import("../parts/configuration.js")],
};
const REFRESH_MS = 800;

export async function open(place, [name, tab = "front"], params) {
  if (!Object.hasOwn(TABS, tab)) throw new Error(`there is no tab ${JSON.stringify(tab)}.`);
  const page = { name, tab, params, record: await get(["searches", name]), part: null };
  const head = h("div"),
    body = h("div"),
    trouble = h("div");
  put(place, head, tabs(page), trouble, body);
  page.setParams = (changes) => rename(page, changes);
  page.mode = "live";
  header(head, page);

  const module = await TABS[tab][1]();
  page.part = await module.open(body, page);

  const refresh = gathered(async () => {
    try {
      const before = page.record;
      page.record = await get(["searches", name], {}, { quiet: true });
      header(head, page);
      put(trouble);
      if (before.state !== page.record.state) announce(`${name} is ${page.record.state}`);
      if (before.updated_at !== page.record.updated_at || before.state !== page.record.state)
        await page.part.refresh?.();
    } catch (error) {
      put(trouble, complaint(error));
    }
  }, REFRESH_MS);
  const stop = watch(
    name,
    (kind, data) => {
      page.part.news?.(kind, data);
      refresh();
    },
    (mode) => {
      page.mode = mode;
      header(head, page);
    },
  );
  return {
    title: `${name}: ${TABS[tab][0].toLowerCase()}`,
    /** Another address with the same tab: true when the part took the change itself. */
    update(changed) {
      page.params = changed;
      return page.part.follow?.(changed) ?? false;
    },
    close() {
      stop();
      page.part.close?.();
    },
  };
}

/** The head of the page; its buttons stay as long as they fit the state, so that focus stays on them. */
function header(place, page) {
  const { record, name, mode } = page;
  if (!page.head) {
    page.head = {
      state: h("span"),
      actions: h("div", { class: "acts" }),
      lead: h("p", { class: "lead" }),
      bar: h("div"),
    };
    const { state, actions: acts, lead, bar } = page.head;
    put(place, h("div", { class: "head" }, h("h1", {}, name), state, acts), lead, bar);
  }
  const key = `${record.state} ${record.driven}`;
  if (page.head.key !== key) put(page.head.actions, actions(page));
  page.head.key = key;
  const lost = mode === "lost" ? [" ", h("span", { class: "badge failed" }, "no connection")] : null;
  put(page.head.state, badge(record.state, record.driven), lost);
  put(page.head.lead, summary(record));
  put(page.head.bar, record.driven && record.limit ? progressBar(record) : null);
}

function progressBar({ trials, limit }) {
  return h(
    "div",
    {
      class: "progress",
      role: "progressbar",
      "aria-label": "finished trials",
      "aria-valuenow": trials,
      "aria-valuemax": limit,
    },
    percent(h("span"), trials / limit),
  );
}

function summary(record) {
  const counts = ["running", "stopped", "infeasible", "diverged", "failed"]
    .filter((state) => record.trial_counts[state])
    .map((state) => `${record.trial_counts[state].toLocaleString("en")} ${state}`);
  const of = record.limit && record.limit !== record.trials ? ` of ${record.limit.toLocaleString("en")}` : "";
  return [
    [
      `${record.trials.toLocaleString("en")}${of} ${record.trials === 1 && !of ? "trial" : "trials"} finished`,
      ...counts,
    ].join(", "),
    record.objectives.join(", "),
    record.constraints.length ? `within ${record.constraints.join(", ")}` : null,
    record.controller ? `proposed by ${record.controller}` : null,
    `begun ${moment(record.created_at)}`,
  ]
    .filter(Boolean)
    .join(" · ");
}

function tabs(page) {
  return h(
    "nav",
    { class: "tabs", "aria-label": "Parts of this search" },
    Object.entries(TABS).map(([key, [label]]) =>
      h(
        "a",
        { href: `#/search/${encodeURIComponent(page.name)}/${key}`, "aria-current": key === page.tab ? "page" : null },
        label,
      ),
    ),
  );
}

/** Write what was chosen into the address, so that it can be sent to somebody; nothing is loaded again. */
function rename(page, changes) {
  for (const [name, value] of Object.entries(changes)) {
    page.params.delete(name);
    for (const each of Array.isArray(value) ? value : [value]) {
      if (each !== null && each !== undefined && each !== "") page.params.append(name, each);
    }
  }
  const query = page.params.size ? `?${page.params}` : "";
  history.replaceState(null, "", `#/search/${encodeURIComponent(page.name)}/${page.tab}${query}`);
}
