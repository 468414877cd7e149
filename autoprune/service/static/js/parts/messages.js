// Errors and empty places, worded as the server words them.

import { h } from "../dom.js";

/** What went wrong, and what to do. */
export function complaint(error) {
  return h(
    "div",
    { class: "error", role: "alert" },
    h("p", {}, error.message),
    error.hint ? h("p", { class: "note" }, error.hint) : null,
  );
}

/** `complete`, `running`... as a badge; a running search without a driver says so. */
export function badge(state, driven = true) {
  const text = state === "running" && !driven ? "no driver" : state;
  return h(
    "span",
    {
      class: `badge ${state} ${driven ? "driven" : ""}`,
      title: text === "no driver" ? "its driver was killed: resume it" : null,
    },
    text,
  );
}
