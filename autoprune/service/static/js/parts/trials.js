// All trials, page by page: filters by state and budget, sorting by any metric, failures with their reasons.

import { get } from "../api.js";
import { announce, h, put } from "../dom.js";
import { describe, duration, ordered, plural, value } from "../format.js";
import { candidateCard } from "./candidate.js";
import { badge, complaint } from "./messages.js";

const STATES = ["complete", "stopped", "infeasible", "diverged", "failed", "running"];
const SIZE = 50;

export async function open(place, page) {
  const state = {
    sort: page.params.get("sort") ?? "number",
    states: page.params.getAll("state"),
    where: page.params.getAll("where"),
    pages: [null],
  };
  const grid = h("div"),
    words = h("p", { class: "note" }),
    card = h("div");
  const budget = h("input", {
    type: "text",
    id: "budget",
    placeholder: "macs <= 0.5 * baseline",
    size: 26,
    value: state.where.join("; "),
    spellcheck: "false",
  });
  const back = h(
    "button",
    {
      type: "button",
      on: {
        click: () => {
          state.pages.pop();
          load();
        },
      },
    },
    "Previous",
  );
  const forth = h(
    "button",
    {
      type: "button",
      on: {
        click: () => {
          state.pages.push(state.next);
          load();
        },
      },
    },
    "Next",
  );
  const jump = h("input", { type: "number", id: "jump", min: 0, size: 6, "aria-label": "Number of a trial" });

  async function load() {
    try {
      const found = await get(["searches", page.name, "trials"], {
        sort: state.sort,
        state: state.states,
        where: state.where,
        cursor: state.pages.at(-1),
        limit: SIZE,
      });
      state.next = found.next;
      put(grid, found.trials.length ? rows(found.trials) : h("p", { class: "empty" }, "No trial fits these filters."));
      const total =
        found.total ??
        (state.states.length ? null : Object.values(page.record.trial_counts).reduce((sum, count) => sum + count, 0));
      const first = (state.pages.length - 1) * SIZE + 1;
      words.textContent = found.trials.length
        ? `Trials ${first.toLocaleString("en")} to ${(first + found.trials.length - 1).toLocaleString("en")}${total ? ` of ${plural(total, "trial")}` : ""}.`
        : "";
    } catch (error) {
      put(grid, complaint(error));
      state.next = null;
      words.textContent = "";
    }
    back.disabled = state.pages.length < 2;
    forth.disabled = !state.next;
  }

  function again() {
    state.pages = [null];
    page.setParams({ sort: state.sort === "number" ? null : state.sort, state: state.states, where: state.where });
    return load().then(() => announce(words.textContent, "trials"));
  }

  function rows(trials) {
    const names = ordered(trials.flatMap((trial) => Object.keys(trial.metrics))).filter((name) => name !== "flops");
    const reasons = trials.some((trial) => trial.reason);
    const head = [
      sortable("number", "trial"),
      h("th", { scope: "col", class: "text" }, "state"),
      names.map((name) => sortable(name, name, describe(name).label)),
      h("th", { scope: "col" }, "seconds"),
      reasons ? h("th", { scope: "col", class: "text" }, "reason") : null,
    ];
    const body = trials.map((trial) =>
      h(
        "tr",
        {},
        h(
          "td",
          {},
          h("button", { type: "button", class: "small", on: { click: () => show(trial.number) } }, trial.number),
        ),
        h("td", { class: "text" }, badge(trial.state)),
        names.map((name) => h("td", {}, value(name, trial.metrics[name]))),
        h("td", {}, trial.finished_at ? duration(trial.finished_at - trial.started_at) : "-"),
        reasons ? h("td", { class: "text" }, trial.reason) : null,
      ),
    );
    return h(
      "div",
      { class: "scroll", tabindex: "0", role: "region", "aria-label": "Trials" },
      h(
        "table",
        {},
        h("caption", { class: "hidden" }, "Trials"),
        h("thead", {}, h("tr", {}, head)),
        h("tbody", {}, body),
      ),
    );
  }

  /** Sorting by a metric shows complete trials only: the first click puts the best on top. */
  function sortable(key, label, title) {
    const [current, descending] = [state.sort.replace(/^-/, ""), state.sort.startsWith("-")];
    const best = describe(key).direction === "max" ? `-${key}` : key;
    const next = current !== key ? (key === "number" ? "number" : best) : descending ? key : `-${key}`;
    const arrow = current !== key ? "" : descending ? " ↓" : " ↑";
    return h(
      "th",
      { scope: "col", title, "aria-sort": current === key ? (descending ? "descending" : "ascending") : null },
      h(
        "button",
        {
          type: "button",
          on: {
            click: () => {
              state.sort = next;
              again();
            },
          },
        },
        label + arrow,
      ),
    );
  }

  async function show(number) {
    await candidateCard(card, page, page.name, number, () => put(card));
    card.scrollIntoView({ behavior: "smooth", block: "nearest" });
    card.querySelector("h2")?.focus({ preventScroll: true });
  }

  const boxes = STATES.map((name) =>
    h(
      "label",
      {},
      h("input", {
        type: "checkbox",
        checked: state.states.includes(name),
        on: {
          change: (event) => {
            state.states = event.target.checked
              ? [...state.states, name]
              : state.states.filter((each) => each !== name);
            again();
          },
        },
      }),
      name,
    ),
  );
  const filter = h(
    "form",
    {
      class: "controls",
      on: {
        submit: (event) => {
          event.preventDefault();
          state.where = budget.value
            .split(";")
            .map((text) => text.trim())
            .filter(Boolean);
          again();
        },
      },
    },
    h("label", { for: "budget" }, "within"),
    budget,
    h("button", { class: "small" }, "Apply"),
  );
  const go = h(
    "form",
    {
      class: "controls",
      on: {
        submit: (event) => {
          event.preventDefault();
          if (jump.value) show(Number(jump.value));
        },
      },
    },
    h("label", { for: "jump" }, "go to trial"),
    jump,
    h("button", { class: "small" }, "Open"),
  );
  put(
    place,
    h(
      "section",
      { "aria-label": "Trials" },
      h("fieldset", { class: "choices" }, h("legend", {}, "Only these states (none ticked: all)"), boxes),
      h("div", { class: "controls" }, filter, go),
      grid,
      words,
      h("div", { class: "buttons" }, back, forth),
    ),
    card,
  );
  await load();
  return {
    /** The first page follows the search, unless somebody is in the middle of it. */
    refresh: () => (state.pages.length === 1 && !grid.contains(document.activeElement) ? load() : undefined),
  };
}
