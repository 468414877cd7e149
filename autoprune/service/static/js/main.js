// The page: one view at a time, named by the part of the address behind `#`.

import { askWith } from "./api.js";
import { h, put } from "./dom.js";
import { complaint } from "./parts/messages.js";

const VIEWS = {
  "": () => import("./views/searches.js"),
  search: () => import("./views/search.js"),
  compare: () => import("./views/compare.js"),
  launch: () => import("./views/launch.js"),
  launched: () => import("./views/launched.js"),
};
const main = document.getElementById("main");
let current = { key: null, close: () => {} };
let turn = 0;

/** `#/search/NAME/trials?state=failed` -> ["search", "NAME", "trials"], {state: ["failed"]} */
function parsed() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const parts = path.split("/").map((part) => {
    try {
      return decodeURIComponent(part);
    } catch {
      return part;
    }
  });
  return { parts, params: new URLSearchParams(query) };
}

async function show() {
  const { parts, params } = parsed();
  const key = parts.join("/");
  if (key === current.key && current.update?.(params)) return;
  const mine = ++turn;
  const first = current.key === null;
  current.close();
  current = { key, close: () => {} };
  mark(parts[0]);
  const load = VIEWS[parts[0]];
  const place = h("div");
  put(main, place);
  try {
    if (!load) throw new Error(`there is no page ${JSON.stringify(parts[0])}.`);
    const view = await load();
    const opened = await view.open(place, parts.slice(1), params);
    if (mine !== turn) return opened.close?.();
    current = { key, close: () => {}, ...opened };
    document.title = `${opened.title} · autoprune`;
  } catch (error) {
    if (mine !== turn) return undefined;
    put(
      place,
      h("h1", {}, "This cannot be shown"),
      complaint(error),
      h("p", {}, h("a", { href: "#/" }, "All searches")),
    );
    document.title = "autoprune";
  }
  if (!first) {
    window.scrollTo(0, 0);
    main.focus({ preventScroll: true });
  }
  return undefined;
}

function mark(name) {
  const here = { search: "", launched: "launch" }[name] ?? name;
  for (const link of document.querySelectorAll(".top nav a")) {
    if (link.getAttribute("href") === `#/${here}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

askWith((error) => {
  const dialog = document.getElementById("token"),
    field = document.getElementById("token-value");
  document.getElementById("token-why").textContent = error.status === 403 ? `${error.message} ${error.hint}` : "";
  field.value = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "use" ? field.value.trim() : null), {
      once: true,
    });
  });
});

window.addEventListener("hashchange", show);
show();
