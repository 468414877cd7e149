// Choosing a model: one slider a budget, and the best trial within all of them, as the server selects it.

import { get } from "../api.js";
import { announce, h, put, table } from "../dom.js";
import { describe, ordered, share, value } from "../format.js";
import { downloads } from "./downloads.js";

const FIRST = ["macs", "params", "latency_ms"];
const STEPS = 200;

/** `onChosen(trial or null, budgets)`, `onOpen(number)`. */
export function chooser(page, { onChosen, onOpen }) {
  const result = h("div", { class: "choice", role: "group", "aria-label": "The selected model" });
  const sliders = makeSliders(page, () => later());
  let control = null,
    timer = 0,
    shown = "";

  function later() {
    clearTimeout(timer);
    timer = setTimeout(() => {
      refresh();
      remember(page, sliders);
    }, 130);
  }

  async function refresh() {
    control?.abort();
    control = new AbortController();
    const where = sliders.map((slider) => slider.where()).filter(Boolean);
    try {
      const found = await get(["searches", page.name, "select"], { where }, { signal: control.signal });
      show(found);
      onChosen(found.trial, lines(sliders));
    } catch (error) {
      if (error.name === "AbortError") return;
      onChosen(null, lines(sliders));
      shown = "";
      put(result, nothing(error, onOpen));
      announce(error.message, "choice");
    }
  }

  /** A download may be under way while a running search goes on: the same trial is not shown anew. */
  function show({ trial, baseline, considered }) {
    const of = `the best of ${considered.toLocaleString("en")} complete trials within these budgets`;
    const key = JSON.stringify([trial.number, trial.metrics]);
    if (key === shown) return put(result.querySelector(".note"), of);
    shown = key;
    announce(
      `selected trial ${trial.number}: ${["top1", ...FIRST].map((name) => said(name, trial.metrics[name])).join("")}`,
      "choice",
    );
    const names = ordered(Object.keys(trial.metrics)).filter(
      (name) => name !== "flops" && name !== "loss" && name !== "images",
    );
    const rows = names.map((name) => [
      name,
      value(name, trial.metrics[name]),
      value(name, baseline[name]),
      against(name, trial.metrics[name], baseline[name]),
    ]);
    return put(
      result,
      h("p", { class: "big" }, `Trial ${trial.number}`),
      h("p", { class: "note" }, of),
      table(
        "The selected model beside the baseline",
        [{ label: "" }, { label: "selected" }, { label: "baseline" }, { label: "" }],
        rows,
      ),
      h(
        "div",
        { class: "buttons" },
        h("button", { type: "button", on: { click: () => onOpen(trial.number) } }, "Widths and details"),
      ),
      downloads(page.name, trial.number),
    );
  }

  const [first, more] = [sliders.filter((slider) => slider.first), sliders.filter((slider) => !slider.first)];
  const element = h(
    "section",
    { class: "panel", "aria-label": "Choose a model" },
    h("h2", {}, "Choose a model"),
    h("p", { class: "note" }, "Budgets that must hold together; the best model within them is marked."),
    first.map((slider) => slider.element),
    more.length
      ? h(
          "details",
          { open: more.some((slider) => slider.where()) },
          h("summary", {}, "More budgets"),
          more.map((slider) => slider.element),
        )
      : null,
    result,
  );
  return { element, refresh };
}

function makeSliders(page, changed) {
  const { baseline, metrics } = page.record;
  const usable = ordered(metrics.length ? metrics : Object.keys(baseline)).filter(
    (name) => Number.isFinite(baseline[name]) && baseline[name] > 0,
  );
  // the search's own cost counts as one too, except a loss, which is least for the baseline
  const own = page.record.objectives.filter((text) => text.endsWith(" min") && !text.includes("loss"));
  const isCost = (name) => ["count", "ms", "bytes"].includes(describe(name).kind) || own.includes(`${name} min`);
  const costs = usable.filter((name) => isCost(name) && name !== "flops" && name !== "images");
  const qualities = usable.filter(
    (name) => describe(name).kind === "fraction" && describe(name).direction === "max" && !name.startsWith("test_"),
  );
  return [
    ...costs.map((name) =>
      slider(page, name, "<=", baseline[name], FIRST.includes(name) || own.includes(`${name} min`), changed),
    ),
    ...qualities.slice(0, 1).map((name) => slider(page, name, ">=", 1, false, changed)),
  ];
}

/** One budget: an upper bound as a share of the baseline, or a lower bound of an accuracy. */
function slider(page, name, op, full, first, changed) {
  const upper = op === "<=";
  const kept = Number(page.params.get(`max_${name}`) ?? page.params.get(`min_${name}`) ?? NaN);
  const off = upper ? STEPS : 0;
  const input = h("input", {
    type: "range",
    min: upper ? 1 : 0,
    max: upper ? STEPS : STEPS - 1,
    step: 1,
    id: `budget-${name}`,
    value: Number.isFinite(kept) ? Math.round(kept * STEPS) : off,
  });
  const output = h("output", { for: input.id });
  const fraction = () => Number(input.value) / STEPS;
  const active = () => Number(input.value) !== off;
  const bound = () => fraction() * full;
  function say() {
    const text = !active()
      ? "no limit"
      : upper
        ? `${value(name, bound())} (${share(bound(), full)})`
        : value(name, bound());
    output.textContent = text;
    input.setAttribute("aria-valuetext", text);
  }
  input.addEventListener("input", () => {
    say();
    changed();
  });
  say();
  const label = h("label", { for: input.id }, `${describe(name).label} at ${upper ? "most" : "least"}`);
  return {
    first,
    name,
    op,
    bound,
    active,
    key: `${upper ? "max" : "min"}_${name}`,
    kept: () => (active() ? String(fraction()) : null),
    where: () => (!active() ? null : upper ? `${name} <= ${fraction()} * baseline` : `${name} >= ${fraction()}`),
    element: h("div", { class: "slider" }, h("div", { class: "say" }, label, output), input),
  };
}

function remember(page, sliders) {
  page.setParams(Object.fromEntries(sliders.map((slider) => [slider.key, slider.kept()])));
}

function lines(sliders) {
  return sliders
    .filter((slider) => slider.active())
    .map((slider) => ({
      metric: slider.name,
      bound: slider.bound(),
      text: `${slider.name} ${slider.op === "<=" ? "≤" : "≥"} ${value(slider.name, slider.bound())}`,
    }));
}

function against(name, mine, base) {
  if (!Number.isFinite(mine) || !Number.isFinite(base)) return "";
  if (describe(name).kind === "fraction")
    return `${mine >= base ? "+" : "−"}${Math.abs(100 * (mine - base)).toFixed(2)}`;
  return share(mine, base);
}

function said(name, number) {
  return Number.isFinite(number) ? `${name} ${value(name, number)}, ` : "";
}

function nothing(error, onOpen) {
  const nearest = error.body?.nearest;
  if (!nearest)
    return [
      h("p", { class: "big" }, "Nothing to choose yet"),
      h("p", { class: "note" }, `${error.message} ${error.hint ?? ""}`),
    ];
  return [
    h("p", { class: "big" }, "No model meets these budgets"),
    h("p", {}, `Nearest is trial ${nearest.trial}. It misses`),
    h(
      "ul",
      {},
      nearest.misses.map((miss) =>
        h(
          "li",
          {},
          `${miss.metric}: it has ${value(miss.metric, miss.value)}, wanted ${miss.constraint.includes(">=") ? "at least" : "at most"} ${value(miss.metric, miss.bound)}`,
        ),
      ),
    ),
    h(
      "div",
      { class: "buttons" },
      h("button", { type: "button", on: { click: () => onOpen(nearest.trial) } }, `Look at trial ${nearest.trial}`),
    ),
  ];
}
