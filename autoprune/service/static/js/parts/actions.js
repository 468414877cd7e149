// What can be done to a search: stop it, go on with it, delete it.

import { address, post, request } from "../api.js";
import { announce, h, put } from "../dom.js";
import { complaint } from "./messages.js";

/** Buttons that fit the search's state. */
export function actions(page) {
  const { record, name } = page;
  const said = h("span");
  const act = (label, work) =>
    h(
      "button",
      {
        type: "button",
        class: "small",
        on: {
          click: async (event) => {
            event.currentTarget.disabled = true;
            try {
              await work();
              announce(`${label}: done`);
            } catch (error) {
              put(said, complaint(error));
            }
            event.target.disabled = false;
          },
        },
      },
      label,
    );
  const buttons = record.driven
    ? [act("Stop", () => post(["searches", name, "stop"], {}))]
    : [resume(page, act), remove(page)];
  return h("div", { class: "buttons" }, buttons, said);
}

function resume(page, act) {
  const { record, name } = page;
  if (record.state !== "complete") return act("Resume", () => post(["searches", name, "resume"], {}));
  return act("Extend", async () => {
    const asked = await ask(
      `Extend ${name}`,
      "Trials in all",
      record.limit ? record.limit * 2 : record.trials * 2,
      "number",
    );
    if (asked !== null) await post(["searches", name, "resume"], { trials: Number(asked) });
  });
}

function remove({ name }) {
  return h(
    "button",
    {
      type: "button",
      class: "small danger",
      on: {
        click: async (event) => {
          const place = event.currentTarget.parentElement;
          const asked = await ask(
            `Delete ${name} with all its trials?`,
            `Write ${name} to confirm`,
            "",
            "text",
            "Delete",
          );
          if (asked === null) return;
          try {
            await request(address(["searches", name], { confirm: asked }), { method: "DELETE" });
            location.hash = "#/";
          } catch (error) {
            place.append(complaint(error));
          }
        },
      },
    },
    "Delete",
  );
}

/** A question in a dialog; null when it was left. */
function ask(title, label, value, type, verb = "Go on") {
  const field = h("input", {
    type,
    value,
    required: true,
    min: type === "number" ? 1 : null,
    autocomplete: "off",
    id: "answer",
  });
  const dialog = h(
    "dialog",
    { "aria-label": title },
    h(
      "form",
      { method: "dialog" },
      h("h2", {}, title),
      h("label", { for: "answer" }, label),
      field,
      h(
        "div",
        { class: "buttons" },
        h("button", { value: "yes", class: "main" }, verb),
        h("button", { value: "no", formnovalidate: true }, "Cancel"),
      ),
    ),
  );
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener(
      "close",
      () => {
        resolve(dialog.returnValue === "yes" ? field.value : null);
        dialog.remove();
      },
      { once: true },
    );
  });
}
