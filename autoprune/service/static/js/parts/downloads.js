// The model of a trial, exported on the server and saved as a file.

import { address, get, post, request } from "../api.js";
import { announce, h, put, save } from "../dom.js";
import { count } from "../format.js";
import { complaint } from "./messages.js";

const FORMATS = { safetensors: "safetensors", onnx: "ONNX", torch_export: "torch.export", torchscript: "TorchScript" };
const LOOK_MS = 500;

/** A choice of formats and a button. The export is checked by the server before it can be had. */
export function downloads(search, number) {
  const format = h(
    "select",
    { "aria-label": "Format" },
    Object.entries(FORMATS).map(([value, label]) => h("option", { value }, label)),
  );
  const button = h("button", { type: "button", class: "main download" }, "Download the model");
  const said = h("div", { role: "status" });
  button.addEventListener("click", async () => {
    button.disabled = true;
    put(said, h("p", { class: "note" }, "Exporting and checking it on the server..."));
    try {
      const size = await fetched(search, number, format.value);
      put(said, h("p", { class: "note" }, `Saved, ${count(size)}B.`));
      announce("The model was saved.");
    } catch (error) {
      put(said, complaint(error));
    }
    button.disabled = false;
  });
  return h("div", {}, h("div", { class: "buttons take" }, button, format), said);
}

async function fetched(search, number, format) {
  let made = await post(["searches", search, "trials", number, "exports"], { format });
  while (made.state === "running") {
    await new Promise((resolve) => {
      setTimeout(resolve, LOOK_MS);
    });
    made = await get(["exports", made.id]);
  }
  if (made.state !== "ready") throw new Error(made.message || "the export failed.");
  const blob = await (await request(address(["exports", made.id, "download"]))).blob();
  save(blob, `${search}-trial${number}-${format}.zip`);
  return blob.size;
}
