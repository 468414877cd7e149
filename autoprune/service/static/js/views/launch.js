// Launching: templates, an editor whose text the server checks line by line, and what is queued.

import { address, get, post, request } from "../api.js";
import { announce, h, put } from "../dom.js";
import { moment } from "../format.js";
import { editor } from "../parts/editor.js";
import { gathered } from "../parts/live.js";
import { badge, complaint } from "../parts/messages.js";

const KEPT = "autoprune-draft";
const QUEUE_MS = 3000;

export async function open(place) {
  const said = h("div", { role: "status", "aria-live": "polite" }),
    queue = h("div");
  const health = await get(["health"]).catch((error) => error.body ?? { launching: false });
  const { templates } = await get(["templates"]).catch(() => ({ templates: [] }));
  const button = h("button", { type: "button", class: "main", disabled: true }, "Launch");
  const draft = sessionStorage.getItem(KEPT);
  const edit = editor({ label: "Configuration (YAML)", value: draft ?? first(templates)?.yaml ?? "", changed });
  let checked = "",
    closed = false;

  const check = gathered(async () => {
    const text = edit.text();
    if (!text.trim())
      return result({
        valid: false,
        problems: [{ line: null, message: "write a configuration, or choose a template." }],
      });
    try {
      const found = await send(["validate"], text);
      if (edit.text() === text) result(found, text);
    } catch (error) {
      put(said, complaint(error));
    }
    return undefined;
  }, 350);

  function changed() {
    sessionStorage.setItem(KEPT, edit.text());
    button.disabled = true;
    check();
  }

  function result(found, text = "") {
    checked = found.valid ? text : "";
    button.disabled = !found.valid || !health.launching;
    edit.mark(found.problems.map((problem) => problem.line).filter((line) => line !== null));
    if (found.valid) return put(said, h("p", { class: "good" }, "The configuration is valid."), summary(found.config));
    return put(
      said,
      h(
        "div",
        { class: "error" },
        h("p", {}, h("b", {}, found.problems.length === 1 ? "One problem" : `${found.problems.length} problems`)),
        h(
          "ul",
          {},
          found.problems.map((problem) =>
            h(
              "li",
              {},
              problem.line === null
                ? null
                : [
                    h(
                      "button",
                      { type: "button", class: "small", on: { click: () => edit.go(problem.line) } },
                      `line ${problem.line}`,
                    ),
                    " ",
                  ],
              problem.message,
            ),
          ),
        ),
      ),
    );
  }

  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      const launch = await send(["launches"], checked);
      announce(`${launch.search} is queued`);
      location.hash = `#/launched/${launch.id}`;
    } catch (error) {
      put(said, complaint(error));
      button.disabled = false;
    }
  });

  async function refresh() {
    const found = await get(["launches"], {}, { quiet: true }).catch(() => null);
    if (closed) return;
    if (found) put(queue, queued(found.launches));
    setTimeout(refresh, QUEUE_MS);
  }

  put(
    place,
    h("h1", {}, "Launch a search"),
    h("p", { class: "lead" }, "The same file that the command line takes. It is checked as you write."),
    health.launching
      ? null
      : h("p", { class: "error" }, "This server does not launch searches; it shows what others write to its store."),
    h(
      "div",
      { class: "editor" },
      h("div", {}, choice(templates, edit, draft), edit.element),
      h("div", {}, h("div", { class: "panel" }, said, h("div", { class: "buttons" }, button)), queue),
    ),
  );
  changed();
  refresh();
  return {
    title: "Launch",
    close() {
      closed = true;
    },
  };
}

/** The template that runs anywhere within minutes. */
function first(templates) {
  return templates.find((each) => each.name.includes("quickstart")) ?? templates[0];
}

async function send(parts, text) {
  const response = await request(address(parts), {
    method: "POST",
    body: text,
    headers: { "Content-Type": "application/yaml" },
  });
  return response.json();
}

function choice(templates, edit, draft) {
  if (!templates.length) return null;
  const about = h("span", { class: "note" }, draft ? "" : first(templates).summary);
  return h(
    "div",
    { class: "controls" },
    h(
      "label",
      {},
      "Template",
      h(
        "select",
        {
          "aria-label": "Template",
          on: {
            change: (event) => {
              const chosen = templates.find((each) => each.name === event.target.value);
              about.textContent = chosen.summary;
              edit.set(chosen.yaml);
            },
          },
        },
        draft ? h("option", { value: "", disabled: true, selected: true }, "(as you left it)") : null,
        templates.map((each) =>
          h("option", { value: each.name, selected: !draft && each === first(templates) }, each.name),
        ),
      ),
    ),
    about,
  );
}

function summary(config) {
  if (!config) return null;
  const pairs = {
    name: config.name,
    objectives: (config.objectives ?? []).join(", "),
    budgets: (config.constraints ?? []).join(", "),
    controller: config.controller?.kind,
    trials: config.limits?.trials,
    runs: config.executor?.kind,
  };
  return h(
    "dl",
    { class: "facts" },
    Object.entries(pairs)
      .filter(([, text]) => text)
      .map(([name, text]) => [h("dt", {}, name), h("dd", {}, text)]),
  );
}

function queued(launches) {
  if (!launches.length) return null;
  const stop = (launch) =>
    h(
      "button",
      {
        type: "button",
        class: "small",
        on: {
          click: (event) => {
            event.target.disabled = true;
            post(["launches", launch.id, "stop"], {}).catch((error) => event.target.after(complaint(error)));
          },
        },
      },
      launch.state === "queued" ? "Withdraw" : "Stop",
    );
  return [
    h("h2", {}, "Launched from here"),
    h(
      "ul",
      { class: "launches" },
      launches
        .slice(0, 12)
        .map((launch) =>
          h(
            "li",
            {},
            h("a", { href: `#/launched/${launch.id}` }, launch.search),
            badge(launch.state),
            ["queued", "running"].includes(launch.state) && !launch.stopping ? stop(launch) : null,
            h("small", { class: "note" }, launch.message || moment(launch.created_at)),
          ),
        ),
    ),
  ];
}
