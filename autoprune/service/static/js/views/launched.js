// One launch while its search does not exist yet: its place in the queue and its log; then the search itself.

import { get } from "../api.js";
import { h, put } from "../dom.js";
import { badge, complaint } from "../parts/messages.js";

const LOOK_MS = 700;

export async function open(place, [id]) {
  let launch = await get(["launches", id]);
  const head = h("div"),
    log = h("pre", { class: "log", tabindex: "0", role: "log", "aria-label": "Log", hidden: true }),
    trouble = h("div");
  let from = 0,
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
      if (launch.state === "running" && (await begun(launch.search))) return go();
      if (["complete", "stopped"].includes(launch.state)) return go();
      if (launch.state === "failed") return;
    } catch (error) {
      if (!closed) put(trouble, complaint(error));
    }
    if (!closed) timer = setTimeout(look, LOOK_MS);
    return undefined;
  }

  function render() {
    const place = launch.position ? `Number ${launch.position} in the queue.` : "";
    put(
      head,
      h("div", { class: "head" }, h("h1", {}, launch.search), badge(launch.state)),
      h(
        "p",
        { class: "lead" },
        launch.message || place || "Preparing: the base network is trained or loaded, then the first trial appears.",
      ),
    );
  }

  function go() {
    if (!closed && location.hash === `#/launched/${id}`)
      location.replace(`#/search/${encodeURIComponent(launch.search)}/front`);
  }

  render();
  put(place, head, trouble, log);
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
