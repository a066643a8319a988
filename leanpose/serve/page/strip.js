/** The strip of results: a small drawing of each item, to choose the one on the stage. */

import { part } from "./dom.js";
import { counted, paint, sizeOf } from "./stage.js";
import { get, select, subscribe } from "./store.js";

const SIDE = 72; // visible pixels
/** @type {WeakMap<HTMLElement, string>} */
const painted = new WeakMap();
/** @type {WeakMap<object, number>} */
const numbers = new WeakMap();
let lastNumber = 0;

/** A number that stands for an object. */
function numberOf(object) {
  if (!object) return 0;
  if (!numbers.has(object)) numbers.set(object, (lastNumber += 1));
  return numbers.get(object);
}

function makeEntry() {
  const entry = document.createElement("li");
  const button = document.createElement("button");
  button.type = "button";
  const canvas = document.createElement("canvas");
  canvas.setAttribute("aria-hidden", "true");
  const badge = document.createElement("span");
  badge.className = "badge";
  button.append(canvas, badge);
  entry.append(button);
  return entry;
}

/** @param {import("./store.js").Item} one */
function describe(one) {
  if (one.state === "failed") return one.fault;
  return one.state === "done" || one.kind === "camera" ? counted(one) : "working";
}

/** Draw the middle of the image as a square, if something of it has changed. */
function drawThumb(canvas, one) {
  const moving = one.kind !== "image" && one.state !== "done";
  const key = [one.id, moving ? Boolean(one.answer) : `${numberOf(one.source)} ${numberOf(one.answer)}`,
    get().minScore, get().minPersonScore].join();
  if (painted.get(canvas) === key) return;
  painted.set(canvas, key);
  const [w, h] = sizeOf(one);
  const dense = Math.min(window.devicePixelRatio || 1, 2);
  canvas.width = canvas.height = SIDE * dense;
  if (!w) return;
  const scale = (SIDE * dense) / Math.min(w, h);
  const whole = new OffscreenCanvas(Math.ceil(w * scale), Math.ceil(h * scale));
  paint(one, whole, scale, dense);
  canvas.getContext("2d").drawImage(whole, (canvas.width - whole.width) / 2, (canvas.height - whole.height) / 2);
}

function render({ items, selected }) {
  const strip = part("strip");
  strip.hidden = items.length < 2;
  while (strip.children.length > items.length) strip.lastElementChild.remove();
  while (strip.children.length < items.length) strip.append(makeEntry());
  if (strip.hidden) return;
  items.forEach((one, i) => {
    const button = strip.children[i].firstElementChild;
    button.dataset.id = String(one.id);
    button.dataset.state = one.kind === "camera" && one.answer && one.state === "working" ? "live" : one.state;
    button.title = one.name;
    button.setAttribute("aria-label", `${one.name}, ${describe(one)}`);
    button.setAttribute("aria-pressed", String(one.id === selected));
    drawThumb(button.firstElementChild, one);
  });
}

/** Begin to show the strip. */
export function mountStrip() {
  part("strip").addEventListener("click", ({ target }) => {
    const button = target.closest("button");
    if (button) select(Number(button.dataset.id));
  });
  subscribe(render);
}
