// One launch while its search does not exist yet: its place in the queue and its log; then the search itself.

import { get, post } from "../api.js";
import { announce, h, put } from "../dom.js";
import { badge, complaint } from "../parts/messages.js";

const LOOK_MS = 700;

export async function open(place, [id]) {
  let launch = await get(["launches", id]);
  const head = h("div"),
    log = h("pre", { class: "log", tabindex: "0", role: "log", "aria-label": "Log", hidden: true }),
    buttons = h("div", { class: "buttons" }),
    trouble = h("div");
  let shown = null,
    from = 0,
    timer = 0,
    closed = false;

  async function look() {
    try {
      launch = await get(["launches", id]);
      const found = await get(["launches", id, "log"], { after: from });
      if (closed) return;
      if (found.text) log.append(found.text);
      from = found.next;
      log.hidden = !log.textContent;
      log.scrollTop = log.scrollHeight;
      render();
      if (launch.state !== "queued" && launch.state !== "failed" && (await begun(launch.search))) return go();
      if (ended()) return;
    } catch (error) {
      if (!closed) put(trouble, complaint(error));
    }
    if (!closed) timer = setTimeout(look, LOOK_MS);
    return undefined;
  }

  const ended = () => ["complete", "stopped", "failed"].includes(launch.state);

  function render() {
    const place = launch.position ? `Number ${launch.position} in the queue.` : "";
    const title = h("div", { class: "head" }, h("h1", {}, launch.search), badge(launch.state));
    put(
      head,
      title,
      h(
        "p",
        { class: "lead" },
        launch.message || place || "Preparing: the base network is trained or loaded, then the first trial appears.",
      ),
    );
    const stop = act("Stop", () => post(["launches", id, "stop"], {}));
    const again = act("Run it again", async () => {
      const made = await post(["searches", launch.search, "resume"], {});
      location.replace(`#/launched/${made.id}`);
    });
    if (shown?.state !== launch.state || shown.stopping !== launch.stopping)
      put(buttons, ended() ? again : launch.stopping ? null : stop);
    shown = launch;
  }

  /** A button; what goes wrong is said below. */
  function act(label, work) {
    const press = async ({ currentTarget }) => {
      currentTarget.disabled = true;
      try {
        await work();
        announce(`${label}: done`);
      } catch (error) {
        put(trouble, complaint(error));
        currentTarget.disabled = false;
      }
    };
    return h("button", { type: "button", class: "small", on: { click: press } }, label);
  }

  function go() {
    if (!closed && location.hash === `#/launched/${id}`)
      location.replace(`#/search/${encodeURIComponent(launch.search)}/front`);
  }

  render();
  put(place, head, buttons, trouble, log);
  look();
  return {
    title: launch.search,
    close() {
      closed = true;
      clearTimeout(timer);
    },
  };
}

/** The search is in the store: its page can show it. */
async function begun(name) {
  const { searches } = await get(["searches"], {}, { quiet: true });
  return searches.some((search) => search.name === name);
}
