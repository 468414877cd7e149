// Several searches on one plot: their fronts, how fast they grew, and what each reaches at a budget.

import { get } from "../api.js";
import { StepPlot } from "../chart/lines.js";
import { ParetoPlot } from "../chart/pareto.js";
import { h, put, table } from "../dom.js";
import { plural, significant, value } from "../format.js";
import { axisChoice, ownAxis } from "../parts/axes.js";
import { candidateCard } from "../parts/candidate.js";
import { complaint } from "../parts/messages.js";
import { tipOf } from "../parts/tip.js";

const MOST = 6;
const OTHERS = 400;
const BUDGETS = [0.7, 0.5, 0.3];

export async function open(place, _, params) {
  const { searches } = await get(["searches"]);
  const usable = searches.filter((search) => search.trials > 0);
  const asked = params.getAll("search").filter((name) => usable.some((search) => search.name === name));
  const objectives = usable[0]?.objectives ?? [];
  const state = {
    names: asked.length ? asked : comparable(usable),
    x: params.get("x") ?? ownAxis("x", objectives),
    y: params.get("y") ?? ownAxis("y", objectives),
    fronts: [],
  };
  const scatter = h("div", { class: "several" }),
    growth = h("div"),
    best = h("div"),
    card = h("div"),
    trouble = h("div"),
    key = h("div");
  const plot = new ParetoPlot(scatter, {
    label: "Fronts of several searches. Arrow keys walk along them, Enter opens a trial.",
    onOpen: (point) =>
      candidateCard(card, { name: "" }, point.series, point.number, () => put(card)).then(() =>
        card.scrollIntoView({ behavior: "smooth", block: "nearest" }),
      ),
    describePoint: (point) => tip(state, point),
  });
  const lines = new StepPlot(growth, {
    label: "Hypervolume by trial of several searches",
    height: 280,
    readout: (x, series) => [
      h("b", {}, `after ${plural(Math.floor(x), "trial")}`),
      h(
        "dl",
        {},
        series.map((one) => [
          h("dt", {}, one.name),
          h("dd", {}, one.y === null ? "-" : `${significant(100 * one.y, 4)} %`),
        ]),
      ),
    ],
  });

  async function load() {
    write(state);
    put(
      key,
      h(
        "ul",
        { class: "legend" },
        state.names.map((name, at) => h("li", {}, h("span", { class: `swatch series${at}` }), name)),
      ),
    );
    if (!state.names.length) return;
    const results = await Promise.allSettled(
      state.names.map((name) => get(["searches", name, "front"], { x: state.x, y: state.y, others: OTHERS })),
    );
    const histories = await Promise.allSettled(
      state.names.map((name) => get(["searches", name, "history"], { x: state.x, y: state.y })),
    );
    put(
      trouble,
      results.filter((each) => each.status === "rejected").map((each) => complaint(each.reason)),
    );
    state.fronts = results.filter((each) => each.status === "fulfilled").map((each) => each.value);
    if (!state.fronts.length) return;
    plot.show(joined(state));
    const grown = histories
      .map((each, at) => ({ name: state.names[at], found: each.value }))
      .filter((each) => each.found?.trial.length);
    lines.show({
      x: { title: "trials", kind: "plain" },
      y: { title: "hypervolume (share)", kind: "fraction", least: 0 },
      series: grown.map(({ name, found }) => ({ name, xs: found.trial.map((number) => number + 1), ys: found.share })),
    });
    put(best, bests(state));
  }

  const pick = h(
    "fieldset",
    { class: "choices" },
    h("legend", {}, `Searches (at most ${MOST})`),
    usable.map((search) =>
      h(
        "label",
        {},
        h("input", {
          type: "checkbox",
          checked: state.names.includes(search.name),
          on: {
            change: (event) => {
              state.names = event.target.checked
                ? [...state.names, search.name].slice(-MOST)
                : state.names.filter((name) => name !== search.name);
              for (const box of pick.querySelectorAll("input")) box.checked = state.names.includes(box.value);
              load();
            },
          },
          value: search.name,
        }),
        search.name,
      ),
    ),
  );
  const metrics = usable.flatMap((search) => Object.keys(search.baseline));
  const axis = (label, key) =>
    axisChoice({
      label,
      key,
      metrics,
      objectives,
      chosen: state[key],
      changed: (text) => {
        state[key] = text;
        load();
      },
    });
  put(
    place,
    h("h1", {}, "Compare searches"),
    usable.length
      ? [
          pick,
          h("div", { class: "controls" }, axis("Cost", "x"), axis("Quality", "y")),
          trouble,
          scatter,
          key,
          h("h2", {}, "The best at a budget"),
          best,
          h("h2", {}, "Convergence"),
          growth,
          h(
            "p",
            { class: "note" },
            "Each share is of the search's own box, so the ends of two lines do not tell which front is better; the table does.",
          ),
          card,
        ]
      : h("p", { class: "empty" }, "There is no search with a finished trial in this store yet."),
  );
  await load();
  return {
    title: "Compare",
    close: () => {
      plot.close();
      lines.close();
    },
  };
}

/** The youngest search and those with the same baseline. */
function comparable(searches) {
  const [first] = searches;
  return searches
    .filter((search) => search.baseline.macs === first.baseline.macs && search.baseline.top1 === first.baseline.top1)
    .slice(0, MOST)
    .map((search) => search.name);
}

function joined({ fronts }) {
  const [first] = fronts;
  const [x, y] = first.axes;
  const bases = new Set(fronts.map((front) => `${front.baseline[x.metric]} ${front.baseline[y.metric]}`));
  const base = first.baseline;
  return {
    x,
    y,
    marks: [],
    budgets: [],
    chosen: null,
    baseline:
      bases.size === 1 && Number.isFinite(base[x.metric]) && Number.isFinite(base[y.metric])
        ? { x: base[x.metric], y: base[y.metric] }
        : null,
    series: fronts.map((front) => ({
      name: front.search,
      total: front.others.total,
      uniform: [],
      front: front.front.map((trial) => ({
        number: trial.number,
        x: trial.metrics[x.metric],
        y: trial.metrics[y.metric],
      })),
      others: front.others.number.map((number, at) => ({
        number,
        x: front.others.values[0][at],
        y: front.others.values[1][at],
      })),
    })),
  };
}

async function tip(state, point) {
  const front = state.fronts.find((each) => each.search === point.series);
  const trial =
    front.front.find((each) => each.number === point.number) ??
    (await get(["searches", point.series, "trials", point.number])).trial;
  return tipOf(trial, front, point.series, {});
}

/** What each front has within shares of its baseline's cost. */
function bests({ fronts, x, y }) {
  const columns = [
    { label: "search" },
    { label: "on the front" },
    ...BUDGETS.map((budget) => ({ label: `${y.split(" ")[0]} at ${100 * budget} % of the ${x.split(" ")[0]}` })),
  ];
  const rows = fronts.map((front, at) => [
    h(
      "span",
      {},
      h("span", { class: `swatch series${at}` }),
      h("a", { href: `#/search/${encodeURIComponent(front.search)}` }, front.search),
    ),
    plural(front.front.length, "trial"),
    ...BUDGETS.map((budget) => within(front, budget)),
  ]);
  return table("The best at a budget", columns, rows);
}

function within(front, budget) {
  const [x, y] = front.axes;
  const fits = front.front.filter((trial) => trial.metrics[x.metric] <= budget * front.baseline[x.metric]);
  if (!fits.length) return "-";
  const values = fits.map((trial) => trial.metrics[y.metric]);
  return value(y.metric, y.direction === "max" ? Math.max(...values) : Math.min(...values));
}

function write({ names, x, y }) {
  const query = new URLSearchParams([...names.map((name) => ["search", name]), ["x", x], ["y", y]]);
  history.replaceState(null, "", `#/compare?${query}`);
}
