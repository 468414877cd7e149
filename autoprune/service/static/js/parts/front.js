// The front of a search: the scatter, its axes, what stands beside it, the choice by budgets, and one candidate.

import { get } from "../api.js";
import { ParetoPlot } from "../chart/pareto.js";
import { announce, h, put, redone } from "../dom.js";
import { value } from "../format.js";
import { axisChoice, ownAxis } from "./axes.js";
import { candidateCard } from "./candidate.js";
import { chooser } from "./choose.js";
import { beside } from "./beside.js";
import { frontTable, legend } from "./front_words.js";
import { complaint } from "./messages.js";
import { pointTip } from "./tip.js";

const OTHERS = 3000;

export async function open(place, page) {
  const host = h("div"),
    words = h("div"),
    table = h("div"),
    trouble = h("div"),
    card = h("div");
  const state = { front: null, presets: [], marks: [], chosen: null, seen: null, fresh: [] };
  const plot = new ParetoPlot(host, {
    label: `Trials and Pareto front of ${page.name}. Arrow keys walk along the front, Enter opens a trial.`,
    onOpen: (point) => (point.preset ? undefined : openTrial(point.number, point.search ?? page.name)),
    describePoint: (point) => pointTip(page, state.front, point),
  });
  const choice = chooser(page, {
    onChosen: (trial, budgets) => {
      state.chosen = trial;
      state.budgets = budgets;
      draw();
    },
    onOpen: openTrial,
  });
  const marks = beside(
    page,
    (found) => {
      state.marks = found;
      draw();
    },
    () => axes(state),
  );

  async function load() {
    try {
      const x = page.params.get("x"),
        y = page.params.get("y");
      const asked = [get(["searches", page.name, "front"], { x, y, others: OTHERS }), presets(page.name)];
      [state.front, state.presets] = await Promise.all(asked);
      put(trouble);
      news(state);
      draw();
      redone(table, frontTable(state.front, openTrial));
    } catch (error) {
      put(trouble, complaint(error));
    }
  }

  function draw() {
    if (!state.front) return;
    const data = plotData(state, page.name);
    plot.show(data);
    put(words, legend(data, state.front));
    state.fresh = [];
  }

  async function openTrial(number, search = page.name) {
    page.setParams({ trial: search === page.name ? number : null });
    state.opened = search === page.name ? number : null;
    draw();
    await candidateCard(card, page, search, number, () => {
      put(card);
      page.setParams({ trial: null });
      state.opened = null;
      draw();
      host.querySelector("svg").focus();
    });
    card.scrollIntoView({ behavior: "smooth", block: "nearest" });
    card.querySelector("h2")?.focus({ preventScroll: true });
  }

  const { metrics, baseline, objectives } = page.record;
  const axis = (label, key) =>
    axisChoice({
      label,
      key,
      objectives,
      metrics: metrics.length ? metrics : Object.keys(baseline),
      chosen: page.params.get(key) ?? ownAxis(key, objectives),
      changed: async (text) => {
        page.setParams({ [key]: text });
        await load();
        await marks.refresh();
      },
    });

  const controls = h(
    "div",
    { class: "controls" },
    axis("Cost", "x"),
    axis("Quality", "y"),
    h(
      "label",
      {},
      h("input", {
        type: "checkbox",
        on: {
          change: (event) => {
            plot.log = event.target.checked;
            plot.zoom = null;
            plot.draw();
          },
        },
      }),
      "logarithmic cost",
    ),
    marks.element,
  );
  put(
    place,
    h(
      "div",
      { class: "two" },
      h("section", { "aria-label": "Pareto front" }, controls, trouble, host, words, table),
      choice.element,
    ),
    card,
  );
  await load();
  marks.refresh();
  choice.refresh();
  const asked = Number(page.params.get("trial") ?? NaN);
  if (Number.isInteger(asked)) openTrial(asked).catch(() => {});
  return { refresh: () => Promise.all([load(), choice.refresh()]), close: () => plot.close() };
}

function axes(state) {
  return state.front?.axes.map((axis) => `${axis.metric} ${axis.direction}`) ?? [];
}

/** The server's front as the plot takes it. */
function plotData(state, name) {
  const { front } = state;
  const [x, y] = front.axes;
  const members = front.front.map((trial) => ({
    number: trial.number,
    x: trial.metrics[x.metric],
    y: trial.metrics[y.metric],
  }));
  const others = front.others.number.map((number, at) => ({
    number,
    x: front.others.values[0][at],
    y: front.others.values[1][at],
  }));
  const uniform = new Set(front.uniform);
  const [bx, by] = [front.baseline[x.metric], front.baseline[y.metric]];
  const chosen = state.chosen && {
    number: state.chosen.number,
    x: state.chosen.metrics[x.metric],
    y: state.chosen.metrics[y.metric],
  };
  return {
    x,
    y,
    series: [
      {
        name,
        front: members,
        others,
        total: front.others.total,
        uniform: [...members, ...others].filter((point) => uniform.has(point.number)),
      },
    ],
    marks: [...state.marks.filter((mark) => mark.axes === axes(state).join()), ...procedures(state)],
    baseline: Number.isFinite(bx) && Number.isFinite(by) ? { x: bx, y: by } : null,
    budgets: state.budgets ?? [],
    chosen: chosen && Number.isFinite(chosen.x) && Number.isFinite(chosen.y) ? chosen : null,
    opened: [...members, ...others].find((point) => point.number === state.opened) ?? null,
    fresh: members.filter((point) => state.fresh.includes(point.number)),
  };
}

/** Models that papers' procedures made for this search: shown beside the front, never part of it. */
async function presets(name) {
  const found = await get(["searches", name, "presets"]).catch(() => ({ presets: [] }));
  return found.presets;
}

function procedures({ front, presets: made }) {
  const [x, y] = front.axes.map((axis) => axis.metric);
  const points = made
    .map((preset, at) => ({ number: -1 - at, x: preset.metrics[x], y: preset.metrics[y], preset, label: preset.label }))
    .filter((point) => Number.isFinite(point.x) && Number.isFinite(point.y));
  return points.length ? [{ name: "papers' procedures", shape: "triangle", points }] : [];
}

/** Which members came since the last look: they are ringed once, and said aloud. */
function news(state) {
  const { front } = state;
  const axesNow = axes(state).join();
  const numbers = front.front.map((trial) => trial.number);
  if (state.seen && state.axes === axesNow) {
    state.fresh = numbers.filter((number) => !state.seen.has(number));
    const newest = front.front.find((trial) => trial.number === Math.max(...state.fresh));
    if (newest)
      announce(
        `trial ${newest.number} is on the front: ${front.axes.map((axis) => `${axis.metric} ${value(axis.metric, newest.metrics[axis.metric])}`).join(", ")}`,
        "front",
      );
  }
  state.seen = new Set(numbers);
  state.axes = axesNow;
}
