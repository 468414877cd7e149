// A text area with line numbers, on which lines with mistakes are marked.

import { h, put } from "../dom.js";

export function editor({ label, value, changed }) {
  const numbers = h("div", { class: "numbers", "aria-hidden": "true" });
  const area = h("textarea", {
    id: "yaml",
    spellcheck: "false",
    autocapitalize: "off",
    autocomplete: "off",
    rows: 24,
    wrap: "off",
    "aria-describedby": "yaml-help",
  });
  area.value = value;
  let wrong = [];

  function count() {
    const lines = area.value.split("\n").length;
    if (numbers.childElementCount !== lines)
      put(
        numbers,
        Array.from({ length: lines }, (_, at) => h("div", {}, at + 1)),
      );
    [...numbers.children].forEach((line, at) => line.classList.toggle("wrong", wrong.includes(at + 1)));
    numbers.scrollTop = area.scrollTop;
  }

  area.addEventListener("input", () => {
    count();
    changed();
  });
  area.addEventListener("scroll", () => {
    numbers.scrollTop = area.scrollTop;
  });
  count();
  return {
    element: h(
      "div",
      {},
      h("label", { for: "yaml" }, label),
      h("div", { class: "lines" }, numbers, area),
      h("p", { class: "note", id: "yaml-help" }, "Paths in it are those of the machine that runs the search."),
    ),
    text: () => area.value,
    set(text) {
      area.value = text;
      wrong = [];
      count();
      changed();
    },
    mark(lines) {
      wrong = lines;
      count();
      area.setAttribute("aria-invalid", String(lines.length > 0));
    },
    /** Put the cursor on a line. */
    go(line) {
      const begin =
        area.value
          .split("\n")
          .slice(0, line - 1)
          .join("\n").length + (line > 1 ? 1 : 0);
      const end = area.value.indexOf("\n", begin);
      area.focus();
      area.setSelectionRange(begin, end < 0 ? area.value.length : end);
      area.scrollTop = Math.max(0, (line - 6) * 19.5);
      count();
    },
  };
}
