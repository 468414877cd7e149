// What the drivers of a search wrote: its launches from this server, and the log of one of them as it grows.

import { get } from "../api.js";
import { h, put } from "../dom.js";
import { moment } from "../format.js";
import { badge, complaint } from "./messages.js";

const LOOK_MS = 1000;

export async function open(place, page) {
  const which = h("div"),
    text = h("pre", { class: "log", tabindex: "0", role: "log", "aria-label": "Log" }),
    trouble = h("div");
  let timer = 0,
    shown = null,
    from = 0,
    closed = false,
    drawn = "";

  async function refresh() {
    try {
      const { launches } = await get(["launches"], { search: page.name });
      const now = JSON.stringify([launches, shown]);
      if (now !== drawn) put(which, launches.length ? choices(launches) : nothing(page.name));
      drawn = now;
      text.hidden = !launches.length;
      if (launches.length && shown === null) follow(launches[0].id);
    } catch (error) {
      put(trouble, complaint(error));
    }
  }

  function choices(launches) {
    return h(
      "ul",
      { class: "list" },
      launches.map((launch) =>
        h(
          "li",
          { class: "launch" },
          h(
            "button",
            {
              type: "button",
              class: "small",
              "aria-pressed": String(launch.id === shown),
              on: { click: () => follow(launch.id) },
            },
            `Launch ${launch.id}`,
          ),
          badge(launch.state),
          h("span", { class: "note" }, [moment(launch.created_at), launch.worker].filter(Boolean).join(" · ")),
          launch.message ? h("span", { class: launch.state === "failed" ? "bad" : "note" }, launch.message) : null,
        ),
      ),
    );
  }

  function follow(id) {
    clearTimeout(timer);
    [shown, from] = [id, 0];
    put(text);
    more(id);
  }

  async function more(id) {
    try {
      const found = await get(["launches", id, "log"], { after: from });
      if (closed || shown !== id) return;
      const atEnd = text.scrollTop + text.clientHeight > text.scrollHeight - 30;
      if (found.text) text.append(found.text);
      from = found.next;
      if (atEnd) text.scrollTop = text.scrollHeight;
      if (!found.ended) timer = setTimeout(() => more(id), LOOK_MS);
      else if (!text.textContent) put(text, "(nothing was written)");
    } catch (error) {
      if (!closed) put(trouble, complaint(error));
    }
  }

  put(place, h("section", { "aria-label": "Log" }, which, trouble, text));
  await refresh();
  return {
    refresh,
    news: (kind) => (kind === "launch" ? refresh() : undefined),
    close() {
      closed = true;
      clearTimeout(timer);
    },
  };
}

function nothing(name) {
  return h(
    "p",
    { class: "empty" },
    "This search was not launched from here, so its log is where it ran. ",
    h(
      "a",
      { href: `#/search/${encodeURIComponent(name)}/trials?state=failed&state=diverged&state=infeasible` },
      "Trials that did not succeed",
    ),
    " state their reasons.",
  );
}
