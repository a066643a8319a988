/** The stage: the selected image with its skeletons, and what is told of it. */

import { button, part, write } from "./dom.js";
import { readable } from "./look.js";
import { frameOf, isPlaying, showFrame } from "./player.js";
import { drawSkeletons, personsOf, pointsOf } from "./skeleton.js";
import { get, selected, set, subscribe } from "./store.js";
import { scoreText, thresholds } from "./thresholds.js";

/** @typedef {import("./store.js").Item} Item */

const NEAR = 18; // visible pixels between pointer and keypoint
const MOST_ENLARGED = 4;

/** Width and height of what an item shows. @param {Item} one @returns {[number, number]} */
export function sizeOf({ source, answer }) {
  if (answer) return [answer.result.width, answer.result.height];
  const { videoWidth, width, videoHeight, height } = /** @type {any} */ (source ?? {});
  return [videoWidth || width || 0, videoHeight || height || 0];
}

/** Let the canvas fill the stage, and return its pixels per pixel of the image. */
function fit(canvas, [width, height]) {
  part("stage").style.setProperty("--aspect", String(width / height));
  const { clientWidth, clientHeight } = part("stage");
  const zoom = Math.min(clientWidth / width, clientHeight / height, MOST_ENLARGED);
  const dense = window.devicePixelRatio || 1;
  const wanted = [width, height].map((side) => Math.max(1, Math.round(side * zoom * dense)));
  if (canvas.width !== wanted[0] || canvas.height !== wanted[1]) [canvas.width, canvas.height] = wanted;
  canvas.style.width = `${wanted[0] / dense}px`;
  canvas.style.height = `${wanted[1] / dense}px`;
  return canvas.width / width;
}

/** Draw an image and its skeletons. @param {Item} one @param {HTMLCanvasElement|OffscreenCanvas} canvas */
export function paint(one, canvas, scale, pixel) {
  const ctx = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  ctx.setTransform(1, 0, 0, 1, 0, 0);
  ctx.globalAlpha = 1;
  ctx.clearRect(0, 0, canvas.width, canvas.height);
  ctx.imageSmoothingQuality = "high";
  if (one.source) ctx.drawImage(one.source, 0, 0, canvas.width, canvas.height);
  if (one.answer) drawSkeletons(canvas, scale, one.answer, thresholds(), pixel);
}

/** Mark the keypoint that is pointed at, and the person of the table among several. */
function mark(canvas, scale, { answer }, { person, keypoint }) {
  const ctx = canvas.getContext("2d");
  const dense = window.devicePixelRatio || 1;
  ctx.setTransform(scale, 0, 0, scale, 0.5 * scale, 0.5 * scale);
  const unit = dense / scale;
  if (person !== null && answer.result.persons.length > 1 && answer.result.persons[person]) {
    const [left, top, right, bottom] = answer.result.persons[person].box_xyxy;
    for (const coat of [{ width: 3.5, colour: "rgb(16 20 32 / 0.6)" }, { width: 1.5, colour: "#fff" }]) {
      ctx.lineWidth = coat.width * unit;
      ctx.strokeStyle = coat.colour;
      ctx.setLineDash([6 * unit, 5 * unit]);
      ctx.strokeRect(left, top, right - left, bottom - top);
    }
    ctx.setLineDash([]);
  }
  const point = keypoint && answer.result.persons[keypoint.person]?.keypoints[keypoint.name];
  if (!point) return;
  for (const coat of [{ width: 5, colour: "rgb(16 20 32)" }, { width: 2.5, colour: "#fff" }]) {
    ctx.beginPath();
    ctx.arc(point.x, point.y, 11 * unit, 0, 2 * Math.PI);
    ctx.lineWidth = coat.width * unit;
    ctx.strokeStyle = coat.colour;
    ctx.stroke();
  }
}

/** Put the name and score of a keypoint beside it. */
function showTip(canvas, { answer }, keypoint, width) {
  const tip = part("tip");
  const point = keypoint && answer?.result.persons[keypoint.person]?.keypoints[keypoint.name];
  tip.hidden = !point;
  if (!point) return;
  tip.textContent = `${readable(keypoint.name)} ${scoreText(point.score)}`;
  const zoom = canvas.clientWidth / width;
  const x = canvas.offsetLeft + (point.x + 0.5) * zoom;
  const y = canvas.offsetTop + (point.y + 0.5) * zoom;
  const most = part("stage").clientWidth - tip.offsetWidth - 4;
  tip.style.left = `${Math.max(4, Math.min(x - tip.offsetWidth / 2, most))}px`;
  tip.style.top = `${y > tip.offsetHeight + 24 ? y - tip.offsetHeight - 18 : y + 18}px`;
}

/** The keypoint nearest to a place on the canvas, if one is near. @param {PointerEvent} event */
function keypointAt(event) {
  const answer = selected()?.answer;
  if (!answer) return null;
  const canvas = /** @type {HTMLCanvasElement} */ (event.target);
  const zoom = canvas.clientWidth / answer.result.width;
  let best = null;
  let least = NEAR / zoom;
  for (const person of personsOf(answer, thresholds())) {
    pointsOf(answer, person, thresholds().minScore).forEach((point, k) => {
      if (!point?.opacity) return;
      const distance = Math.hypot(point.x + 0.5 - event.offsetX / zoom, point.y + 0.5 - event.offsetY / zoom);
      if (distance >= least) return;
      least = distance;
      best = { person, name: answer.model.keypoints[k] };
    });
  }
  return best;
}

/** "2 persons", "No person". @param {Item} one */
export function counted({ answer }) {
  const count = answer ? personsOf(answer, thresholds()).length : 0;
  return count === 0 ? "No person" : `${count} person${count === 1 ? "" : "s"}`;
}

/** @param {Item} one */
function factsOf(one) {
  if (one.kind !== "image") return one.facts;
  if (!one.answer) return "";
  const { ms, result } = one.answer;
  const unseen = one.source ? "" : " · this browser cannot show this kind of file";
  return `${result.width} × ${result.height} · ${counted(one)} · ${Math.round(ms)} ms${unseen}`;
}

/** Tell what goes on beside the image. @param {Item} one */
function tell(one) {
  const working = one.state === "waiting" || one.state === "working";
  const watching = one.kind === "camera" && one.answer;
  part("busy").hidden = !working || watching;
  const doing = one.note || (one.state === "waiting" ? "Waiting" : "Finding persons");
  write(part("busy-text"), doing);
  part("busy-bar").hidden = one.progress === null;
  if (one.progress !== null) part("busy-bar").value = one.progress;
  part("fault").hidden = one.state !== "failed";
  write(part("fault-text"), one.fault);
  button("retry").hidden = !one.file && one.kind !== "camera";
  write(part("name"), one.name);
  write(part("facts"), factsOf(one));
  const filming = one.kind === "camera" && one.state === "working";
  button("stop-camera").hidden = !filming;
  button("camera", "#bar").hidden = filming;
  part("player").hidden = !(one.kind === "clip" && one.state === "done");
  if (one.kind === "clip") {
    part("seek").max = Math.max(0, one.frames.length - 1);
    part("seek").value = frameOf(one);
    part("seek").setAttribute("aria-valuetext", `${frameOf(one) + 1} of ${one.frames.length}`);
    write(button("play"), isPlaying(one.id) ? "Pause" : "Play");
  }
  write(part("status"), statusOf(one, doing));
}

/** What screen readers are told. @param {Item} one @param {string} doing */
function statusOf(one, doing) {
  if (one.state === "failed") return ""; // the fault itself is told
  if (one.state === "done") return `${one.name}: ${counted(one)}.`;
  return one.kind === "camera" && one.answer ? "The camera runs." : doing.split(",")[0]; // no numbers, which run
}

function render() {
  const canvas = part("canvas");
  const one = selected();
  part("empty").hidden = Boolean(one);
  part("stage").hidden = part("bar").hidden = part("panel").hidden = !one;
  if (!one) return;
  tell(one);
  const size = sizeOf(one);
  canvas.hidden = !size[0] || (!one.source && !one.answer);
  canvas.setAttribute("aria-label", one.answer ? `${one.name}: ${counted(one)}` : one.name);
  if (!canvas.hidden) {
    const scale = fit(canvas, size);
    paint(one, canvas, scale, window.devicePixelRatio || 1);
    if (one.answer) mark(canvas, scale, one, get());
  }
  showTip(canvas, one, canvas.hidden ? null : get().keypoint, size[0]);
}

/** Begin to show the selected item. */
export function mountStage() {
  const canvas = part("canvas");
  const point = (event) => {
    const keypoint = keypointAt(event);
    const now = get().keypoint;
    if (keypoint?.name !== now?.name || keypoint?.person !== now?.person) set({ keypoint });
  };
  canvas.addEventListener("pointermove", point);
  canvas.addEventListener("pointerdown", (event) => {
    point(event);
    if (get().keypoint) set({ person: get().keypoint.person });
  });
  canvas.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && set({ keypoint: null }));
  part("seek").addEventListener("input", ({ target }) => {
    const one = selected();
    if (one) showFrame(one.id, Number(target.value));
  });
  new ResizeObserver(render).observe(part("stage"));
  subscribe(render);
}
