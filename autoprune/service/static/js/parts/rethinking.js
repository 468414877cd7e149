// Does inheriting help? What `autoprune compare` found: sentences, arms with their intervals, and the proxy's tau.

import { get } from "../api.js";
import { armsChart } from "../chart/arms.js";
import { h, put, s, table } from "../dom.js";
import { count, duration, moment, significant } from "../format.js";
import { complaint } from "./messages.js";

export async function open(place, page) {
  try {
    const { comparisons } = await get(["searches", page.name, "comparisons"]);
    put(
      place,
      comparisons.map(({ report, written_at: at }) => shown(report, at)),
    );
  } catch (error) {
    put(place, error.status === 404 ? nothing(page.name) : complaint(error));
  }
  return {};
}

function nothing(name) {
  return h(
    "div",
    { class: "empty" },
    h("h2", {}, "Nothing was compared yet"),
    h(
      "p",
      {},
      "Train candidates of this search to their end, with inherited and with new weights, and see whether inheriting helped:",
    ),
    h("pre", {}, `autoprune compare ${name}`),
  );
}

function shown(report, at) {
  const chart = h("div");
  armsChart(chart, report);
  const found = report.differences.filter((row) => row.clear);
  return h(
    "section",
    { "aria-label": "Inherited against new weights" },
    h(
      "ul",
      { class: "verdicts" },
      report.verdicts.map((text) => verdict(text.replaceAll("+-", "±"))),
    ),
    h("h2", {}, "Arms"),
    h(
      "p",
      { class: "note" },
      `Test top1 of each arm: the mean over ${report.seeds.length} seeds, its Student 95 % interval as a line.`,
    ),
    armsLegend(),
    chart,
    h("details", {}, h("summary", {}, "All arms as a table"), arms(report)),
    h("h2", {}, "Inherited against new weights"),
    h(
      "p",
      { class: "note" },
      "Points of test top1, paired by seed: those whose interval leaves out zero. Ratios are first to second: of epochs, " +
        "and of training compute with the base model's training counted.",
    ),
    found.length ? differences(found) : h("p", {}, "No interval leaves out zero."),
    h(
      "details",
      {},
      h("summary", {}, `All differences (${report.differences.length})`),
      differences(report.differences),
    ),
    h("h2", {}, "What the search ranked by"),
    tau(report.tau),
    h("h2", {}, "Notes"),
    h(
      "ul",
      { class: "note" },
      report.notes.map((text) => h("li", {}, text.replaceAll("+-", "±"))),
    ),
    h("p", { class: "note" }, `Written ${moment(at)}.`),
  );
}

const KINDS = {
  inherited: "inherited weights",
  new: "new or initial weights",
  reference: "uniform or random widths of equal MACs",
  dense: "unpruned",
};

function armsLegend() {
  const mark = (kind) =>
    s(
      "svg",
      { width: 26, height: 12, "aria-hidden": "true" },
      s("path", { class: `whisker ${kind}`, d: "M1 6H25" }),
      s("circle", { class: `mean ${kind}`, cx: 13, cy: 6, r: 4.5 }),
    );
  return h(
    "ul",
    { class: "legend" },
    Object.entries(KINDS).map(([kind, text]) => h("li", {}, mark(kind), text)),
  );
}

/** `trial 38 (68 % of the MACs): ...; ...` as a heading and its findings. */
function verdict(text) {
  const [, subject, rest] = /^([^:]+\)): (.*)$/s.exec(text) ?? [null, null, text];
  if (!subject) return h("li", {}, text);
  return h(
    "li",
    {},
    h("b", {}, subject),
    h(
      "ul",
      {},
      rest
        .replace(/\.$/, "")
        .split("; ")
        .map((part) => h("li", {}, part)),
    ),
  );
}

function spread(mean, std) {
  if (!Number.isFinite(mean)) return "-";
  return Number.isFinite(std)
    ? `${(100 * mean).toFixed(2)} ± ${(100 * std).toFixed(2)} %`
    : `${(100 * mean).toFixed(2)} %`;
}

function arms(report) {
  const columns = [
    "model",
    "MACs",
    "arm",
    "epochs",
    "runs",
    "search-val top1",
    "test top1",
    "training MACs",
    "seconds",
  ].map((label, at) => ({ label, text: at === 2 }));
  return table(
    "Arms",
    columns,
    report.table.map((row) => [
      row.subject,
      `${count(row.macs)} (${Math.round(100 * row.macs_share)} %)`,
      row.arm,
      row.epochs,
      row.diverged ? `${row.runs}, ${row.diverged} diverged` : row.runs,
      spread(row.top1, row.top1_std),
      spread(row.test_top1, row.test_top1_std),
      count(row.training_macs),
      duration(row.seconds),
    ]),
  );
}

function differences(list) {
  const points = (value) =>
    Number.isFinite(value) ? `${value < 0 ? "−" : "+"}${Math.abs(100 * value).toFixed(2)}` : "-";
  const columns = [
    { label: "model" },
    { label: "arms", text: true },
    { label: "pairs" },
    { label: "difference" },
    { label: "95 % interval" },
    { label: "epochs" },
    { label: "compute" },
  ];
  return table(
    "Differences",
    columns,
    list.map((row) => {
      const bold = (text) => (row.clear ? h("b", {}, text) : text);
      return [
        row.subject,
        bold(`${row.first} − ${row.second}`),
        row.n,
        bold(points(row.mean)),
        bold(`${points(row.low)} to ${points(row.high)}`),
        significant(row.epochs_ratio ?? NaN, 3),
        significant(row.compute_ratio ?? NaN, 3),
      ];
    }),
  );
}

function tau(found) {
  if (!found || !Number.isFinite(found.tau)) return h("p", { class: "note" }, "Too few models to say.");
  return h(
    "p",
    {},
    `Kendall's tau between the search's own accuracy and the test accuracy after ${found.arm}: `,
    h("b", {}, found.tau.toFixed(2)),
    ` (95 % interval ${found.low.toFixed(2)} to ${found.high.toFixed(2)}, ${found.n} models). `,
    found.warning ? h("span", { class: "note" }, found.warning) : null,
  );
}
