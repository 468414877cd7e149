// Other searches that measured the same network the same way, drawn beside this one: random search, uniform widths.

import { get } from "../api.js";
import { h, put } from "../dom.js";

const MOST = 6;
const POINTS = 400;

/** A row of checkboxes; `changed(marks)` whenever something is to be drawn. Random and uniform searches are on at once. */
export function beside(page, changed, axes) {
  const element = h("span", { class: "controls", hidden: true });
  const shown = new Set();
  let others = null;

  async function refresh() {
    others ??= await comparable(page)
      .then((found) => {
        for (const search of found) if (reference(search)) shown.add(search.name);
        render(found);
        return found;
      })
      .catch(() => []);
    const marks = await Promise.all(
      others.filter((search) => shown.has(search.name)).map((search) => points(search, axes())),
    );
    changed(marks.filter(Boolean));
  }

  function render(found) {
    element.hidden = !found.length;
    put(
      element,
      found.slice(0, MOST).map((search) =>
        h(
          "label",
          {},
          h("input", {
            type: "checkbox",
            checked: shown.has(search.name),
            on: {
              change: (event) => {
                if (event.target.checked) shown.add(search.name);
                else shown.delete(search.name);
                refresh();
              },
            },
          }),
          search.name,
        ),
      ),
    );
  }

  return { element, refresh };
}

function reference(search) {
  return ["random", "uniform"].includes(search.controller);
}

/** Searches whose baseline measured the very same; those that others are compared with come first. */
async function comparable(page) {
  const { searches } = await get(["searches"]);
  const own = page.record;
  const same = (search) =>
    ["top1", "macs", "params", "loss"].every((name) => search.baseline[name] === own.baseline[name]);
  return searches
    .filter(
      (search) => search.name !== own.name && search.trials > 0 && Object.keys(search.baseline).length && same(search),
    )
    .sort((a, b) => reference(b) - reference(a))
    .slice(0, MOST);
}

async function points(search, [x, y]) {
  try {
    const front = await get(["searches", search.name, "front"], { x, y, others: POINTS });
    const [cost, quality] = front.axes.map((axis) => axis.metric);
    const members = front.front.map((trial) => ({
      number: trial.number,
      x: trial.metrics[cost],
      y: trial.metrics[quality],
    }));
    const behind = front.others.number.map((number, at) => ({
      number,
      x: front.others.values[0][at],
      y: front.others.values[1][at],
    }));
    const all = [...members, ...behind].map((point) => ({ ...point, search: search.name }));
    const shape = search.controller === "uniform" ? "square" : "diamond";
    return { name: search.name, shape, points: all, axes: `${x},${y}` };
  } catch {
    return null; // it lacks one of the metrics
  }
}
