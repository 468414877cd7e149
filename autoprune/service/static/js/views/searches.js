// All searches of the store, with their state, best accuracy and the growth of their front.

import { get } from "../api.js";
import { sparkline } from "../chart/lines.js";
import { announce, h, put } from "../dom.js";
import { describe, moment, plural, significant, value } from "../format.js";
import { badge, complaint } from "../parts/messages.js";

const EVERY_MS = 4000;
const AT_ONCE = 4;

export async function open(place) {
  const list = h("ul", { class: "list", "aria-label": "Searches" });
  const lead = h("p", { class: "lead" });
  const waiting = h("div");
  const trouble = h("div");
  const rows = new Map();
  const queue = [];
  let busy = 0,
    stopped = false,
    timer = 0;

  const visible = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      const row = rows.get(entry.target.dataset.search);
      if (row) row.seen = entry.isIntersecting;
      if (row?.seen) want(row);
    }
  });

  function want(row) {
    if (!row || row.drawn === row.search.updated_at || queue.includes(row)) return;
    queue.push(row);
    work();
  }

  async function work() {
    while (busy < AT_ONCE && queue.length && !stopped) {
      const row = queue.shift();
      busy += 1;
      row.drawn = row.search.updated_at;
      detail(row)
        .catch(() => {})
        .finally(() => {
          busy -= 1;
          work();
        });
    }
  }

  async function refresh() {
    clearTimeout(timer);
    try {
      const { searches } = await get(["searches"], {}, { quiet: rows.size > 0 });
      const { launches } = await get(["launches"], { limit: 50 }, { quiet: true });
      put(trouble);
      put(waiting, queued(launches, searches));
      render(searches);
    } catch (error) {
      if (!rows.size && error.status === 401) throw error;
      put(trouble, complaint(error));
    }
    if (!stopped)
      timer = setTimeout(() => {
        if (!document.hidden) refresh();
        else timer = setTimeout(refresh, EVERY_MS);
      }, EVERY_MS);
  }

  function render(searches) {
    lead.textContent = searches.length ? `${plural(searches.length, "search")}, the youngest first.` : "";
    if (!searches.length) return put(list, empty());
    const before = rows.size;
    for (const search of searches) {
      const row = rows.get(search.name) ?? made(search);
      if (row.search.updated_at !== search.updated_at || row.search.driven !== search.driven || !row.filled)
        fill(row, search);
      row.search = search;
      if (before && row.seen) want(row);
    }
    const names = new Set(searches.map((search) => search.name));
    for (const name of [...rows.keys()]) if (!names.has(name)) rows.delete(name);
    const wanted = searches.map((search) => rows.get(search.name).item);
    if (wanted.some((item, at) => list.children[at] !== item) || list.children.length !== wanted.length)
      put(list, wanted);
    if (before && searches.length > before) announce(`a new search: ${searches[0].name}`);
    for (const { item } of rows.values()) visible.observe(item);
    return undefined;
  }

  function made(search) {
    const item = h("li", { data: { search: search.name } });
    const row = {
      item,
      search,
      about: h("div"),
      state: h("div"),
      best: h("div", { class: "best" }),
      spark: h("div"),
      when: h("div", { class: "when note" }),
      drawn: null,
    };
    item.append(row.about, row.state, row.best, row.spark, row.when);
    rows.set(search.name, row);
    return row;
  }

  put(
    place,
    h(
      "div",
      { class: "head" },
      h("h1", {}, "Searches"),
      h("div", { class: "buttons" }, h("a", { class: "button", href: "#/launch" }, "Launch a search")),
    ),
    lead,
    trouble,
    waiting,
    list,
  );
  await refresh();
  return {
    title: "Searches",
    close() {
      stopped = true;
      clearTimeout(timer);
      visible.disconnect();
    },
  };
}

function fill(row, search) {
  row.filled = true;
  put(
    row.about,
    h("a", { class: "name", href: `#/search/${encodeURIComponent(search.name)}` }, search.name),
    h(
      "small",
      {},
      [search.controller, search.objectives.join(", "), ...search.constraints].filter(Boolean).join(" · "),
    ),
  );
  const bad = ["failed", "diverged"].map((state) => [search.trial_counts[state], state]).filter(([count]) => count);
  const of = search.limit && search.limit !== search.trials ? ` of ${search.limit.toLocaleString("en")}` : "";
  put(
    row.state,
    badge(search.state, search.driven),
    h(
      "small",
      {},
      `${search.trials.toLocaleString("en")}${of} trials`,
      bad.map(([count, state]) => `, ${count} ${state}`),
    ),
  );
  put(row.when, h("time", { datetime: new Date(1000 * search.updated_at).toISOString() }, moment(search.updated_at)));
}

/** Launches whose searches are not there yet: those that wait or prepare, and the last that ended before. */
function queued(launches, searches) {
  const known = new Set(searches.map((search) => search.name));
  const found = launches.filter(({ search }) => !known.has(search) && known.add(search));
  if (!found.length) return null;
  return h(
    "ul",
    { class: "list queue", "aria-label": "Launches without a search" },
    found.map((launch) =>
      h(
        "li",
        { class: "launch" },
        h(
          "div",
          {},
          h("a", { class: "name", href: `#/launched/${launch.id}` }, launch.search),
          h("small", {}, launch.message || (launch.position ? `number ${launch.position} in the queue` : "preparing")),
        ),
        h("div", {}, badge(launch.state)),
      ),
    ),
  );
}

/** The best model and the growth of the front: two more requests, made when the row is in view. */
async function detail(row) {
  const { name } = row.search;
  const [history, best] = await Promise.allSettled([
    get(["searches", name, "history"]),
    get(["searches", name, "select"]),
  ]);
  if (best.status === "fulfilled" && history.status === "fulfilled") {
    const metric = history.value.axes[1].metric;
    const { trial, baseline } = best.value;
    const cost = history.value.axes[0].metric;
    put(
      row.best,
      h("b", {}, value(metric, trial.metrics[metric])),
      ` best ${metric}`,
      h(
        "small",
        {},
        `${value(cost, trial.metrics[cost])} ${describe(cost).name}; baseline ${value(metric, baseline[metric])}, ${value(cost, baseline[cost])}`,
      ),
    );
  } else {
    put(row.best, h("small", {}, "no complete trial yet"));
  }
  if (history.status === "fulfilled" && history.value.trial.length) {
    const { trial, share } = history.value;
    put(
      row.spark,
      sparkline(
        trial,
        share,
        `hypervolume over ${history.value.trials} trials, now ${significant(100 * share.at(-1), 3)} % of its box`,
      ),
    );
  }
}

function empty() {
  return h(
    "li",
    { class: "empty" },
    h(
      "div",
      {},
      h("h2", {}, "No search in this store yet"),
      h("p", {}, "Launch one from ", h("a", { href: "#/launch" }, "a template"), ", or in a terminal:"),
      h("pre", {}, "autoprune search launch/quickstart.yaml"),
      h("p", { class: "note" }, "It appears here while it runs, if it writes to the store that this server reads."),
    ),
  );
}
