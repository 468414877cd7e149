// Arms of a comparison: one line a model and arm, the mean as a dot and its interval as a line.

import { s } from "../dom.js";
import { tick } from "../format.js";
import { extent, padded, scale, ticks } from "./scale.js";

const ROW = 22,
  HEAD = 30,
  LEFT = 210,
  FOOT = 34;
// Student's t for 95 %, two-sided, by degrees of freedom 1 to 12; beyond it the differences are below a tenth
const STUDENT = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179];

/** Draw `report.table` into `host`; a model's reference rows come under it. */
export function armsChart(host, report) {
  const roles = Object.fromEntries(report.subjects.map((subject) => [subject.name, subject.role]));
  const rows = report.table
    .filter((row) => Number.isFinite(row.test_top1))
    .map((row) => ({ ...row, half: half(row), role: roles[row.subject] ?? "candidate" }));
  const draw = () => paint(host, rows, report.search);
  new ResizeObserver(draw).observe(host);
  host.classList.add("plot");
}

/** Half of the interval of the mean. */
function half({ runs, test_top1_std: std }) {
  if (!(runs > 1) || !Number.isFinite(std)) return 0;
  return (STUDENT[Math.min(runs - 1, STUDENT.length) - 1] * std) / Math.sqrt(runs);
}

function paint(host, rows, search) {
  const width = Math.max(300, host.clientWidth);
  const left = width < 560 ? 128 : LEFT;
  const subjects = [...new Set(rows.map((row) => row.subject))];
  const height = subjects.length * HEAD + rows.length * ROW + FOOT;
  const domain = padded(extent(rows.flatMap((row) => [row.test_top1 - row.half, row.test_top1 + row.half])));
  const sx = scale(domain, [left, width - 16]);
  const svg = s("svg", {
    class: "chart",
    role: "img",
    "aria-label": `Test accuracy by arm, ${search}; the table below has the numbers`,
    viewBox: `0 0 ${width} ${height}`,
    height,
  });
  for (const at of ticks(...domain, Math.floor((width - left) / 90))) {
    svg.append(
      s("line", { class: "grid", x1: sx(at), x2: sx(at), y1: 0, y2: height - FOOT }),
      s("text", { x: sx(at), y: height - FOOT + 18, "text-anchor": "middle" }, tick(at, "fraction")),
    );
  }
  let y = 0;
  for (const subject of subjects) {
    const mine = rows.filter((row) => row.subject === subject);
    svg.append(
      s(
        "text",
        { class: "title", x: 0, y: y + 20 },
        `${subject}, ${Math.round(100 * mine[0].macs_share)} % of the MACs`,
      ),
    );
    y += HEAD;
    for (const row of mine) {
      line(svg, row, sx, y + ROW / 2, left);
      y += ROW;
    }
  }
  host.replaceChildren(svg);
}

function line(svg, row, sx, y, left) {
  const kind =
    row.role === "dense"
      ? "dense"
      : row.role === "candidate"
        ? /^scratch|^rewind/.test(row.arm)
          ? "new"
          : "inherited"
        : "reference";
  const fits = Math.floor((left - 16) / 6.3);
  const name = row.arm.length > fits ? `${row.arm.slice(0, fits - 1)}…` : row.arm;
  const text = s("text", { x: left - 10, y: y + 4, "text-anchor": "end" }, name);
  if (name !== row.arm) text.append(s("title", {}, row.arm));
  svg.append(
    text,
    s("path", { class: `whisker ${kind}`, d: `M${sx(row.test_top1 - row.half)} ${y}H${sx(row.test_top1 + row.half)}` }),
    s(
      "circle",
      { class: `mean ${kind}`, cx: sx(row.test_top1), cy: y, r: 4.5 },
      s("title", {}, `${row.arm}: ${tick(row.test_top1, "fraction")}`),
    ),
  );
}
