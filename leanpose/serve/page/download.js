/** Results as files: JSON as it was answered, CSV with the columns of poses.csv, PNG at the size of the image. */

import { button, part } from "./dom.js";
import { paint } from "./stage.js";
import { get, selected, subscribe } from "./store.js";

/** @typedef {import("./store.js").Item} Item */

const COLUMNS = ["image", "person", "score", "x1", "y1", "x2", "y2"];

/** Items to download: the one on the stage, or all. @returns {Item[]} */
function concerned() {
  const { items } = get();
  const one = selected();
  const all = part("scope-of").value === "all" && items.length > 1;
  return (all ? items : one ? [one] : []).filter((each) => each.answer);
}

/** @param {Item} one @returns {string} */
function jsonOf(one) {
  if (one.kind !== "clip") return one.answer?.text ?? "";
  const { name, frames } = one;
  const entry = ({ result, time = 0 }, frame) => ({ ...result, image: name, frame, time_s: Number(time.toFixed(4)) });
  return JSON.stringify(frames.map(entry));
}

/** A cell as Python's csv writes it. @param {string} text */
const cell = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

/** @param {string} name @param {import("./store.js").Answer} answer @returns {string[][]} */
function rowsOf(name, { result, model }) {
  const width = COLUMNS.length + 3 * model.keypoints.length;
  if (!result.persons.length) return [[name, ...Array(width - 1).fill("")]];
  return result.persons.map(({ score, box_xyxy, keypoints }, i) => [
    name, String(i), score.toFixed(4), ...box_xyxy.map((v) => v.toFixed(2)),
    ...model.keypoints.flatMap((key) => {
      const point = keypoints[key];
      return point ? [point.x.toFixed(2), point.y.toFixed(2), point.score.toFixed(4)] : ["", "", ""];
    }),
  ]);
}

/** @param {Item[]} items @returns {string} */
function csvOf(items) {
  const answers = items.flatMap((one) => (one.kind === "clip"
    ? one.frames.map((answer, frame) => /** @type {const} */ ([`${one.name}#${frame}`, answer]))
    : [/** @type {const} */ ([/** @type {any} */ (one.answer).result.image, /** @type {any} */ (one.answer)])]));
  const names = answers[0][1].model.keypoints;
  const header = [...COLUMNS, ...names.flatMap((name) => ["x", "y", "score"].map((end) => `${name}_${end}`))];
  const alike = answers.filter(([, { model }]) => model.keypoints.join() === names.join());
  const rows = alike.flatMap(([name, answer]) => rowsOf(name, answer));
  return [header, ...rows].map((row) => `${row.map(cell).join(",")}\n`).join("");
}

/** What is shown, at the size of the image; its pixels are read anew. @param {Item} one @returns {Promise<Blob>} */
async function pngOf(one) {
  const { width, height } = /** @type {any} */ (one.answer).result;
  const canvas = new OffscreenCanvas(width, height);
  const readable = one.kind === "image" && one.source;
  paint(readable ? { ...one, source: await createImageBitmap(/** @type {Blob} */ (one.file)) } : one, canvas, 1, 1);
  return canvas.convertToBlob({ type: "image/png" });
}

/** @param {Blob} content @param {string} name */
function save(content, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60e3);
}

const stem = (name) => name.replace(/\.[^.]*$/, "") || "image";

/** @param {"json"|"csv"|"png"} form */
export async function download(form) {
  const items = concerned();
  if (!items.length) return;
  const name = items.length === 1 ? stem(items[0].name) : "poses";
  if (form === "json") {
    const texts = items.map(jsonOf);
    const text = texts.length === 1 ? texts[0] : `[${texts.join(",")}]`;
    save(new Blob([text], { type: "application/json" }), `${name}.json`);
  } else if (form === "csv") {
    save(new Blob([csvOf(items)], { type: "text/csv" }), `${name}.csv`);
  } else {
    for (const one of items) save(await pngOf(one), `${stem(one.name)}_pose.png`);
  }
}

/** Let the buttons tell whether there is anything to download. */
export function mountDownloads() {
  subscribe(({ items }) => {
    part("scope").hidden = items.length < 2;
    const none = concerned().length === 0;
    for (const form of ["json", "csv", "png"]) button(form).disabled = none;
  });
}
