/** The camera: its frames to poses as they come. What is not answered yet is left out, so nothing lags behind. */

import { openFeed, shotOf } from "./frames.js";
import { Fault } from "./server.js";
import { patch } from "./store.js";

const WISHED = { video: { width: { ideal: 1280 }, height: { ideal: 720 }, facingMode: "user" } };
const RECENT = 20; // answers from which the frame rate is told

const REASONS = {
  NotAllowedError: "The camera is not allowed here. Allow it in the browser's address bar, then try again.",
  NotFoundError: "There is no camera on this device.",
  NotReadableError: "The camera is in use by another program.",
};

/** @returns {Promise<MediaStream>} */
async function open() {
  if (!navigator.mediaDevices) throw new Fault("Browsers allow the camera only on localhost or with https.");
  try {
    return await navigator.mediaDevices.getUserMedia(WISHED);
  } catch (error) {
    const { name, message } = /** @type {DOMException} */ (error);
    throw new Fault(REASONS[name] ?? `The camera does not start: ${message}`);
  }
}

/** "12.1 frames per second, 85 ms behind". @param {number[]} times ms of the last answers @param {number} delay ms */
function factsOf(times, delay) {
  const span = times[times.length - 1] - times[0];
  const rate = span > 0 ? `${((1000 * (times.length - 1)) / span).toFixed(1)} frames per second, ` : "";
  return `${rate}${Math.round(delay)} ms behind`;
}

/** Send frames until the signal or a fault ends it. */
function pump(video, feed, signal) {
  const began = performance.now();
  const step = async () => {
    if (signal.aborted) return;
    if (feed.ready() && video.videoWidth) await feed.send(shotOf(video, (performance.now() - began) / 1000));
    if ("requestVideoFrameCallback" in video) video.requestVideoFrameCallback(step);
    else requestAnimationFrame(step);
  };
  step();
}

/**
 * @param {import("./store.js").Item} one
 * @param {import("./jobs.js").Options} options
 * @returns {Promise<Partial<import("./store.js").Item>>} only if the camera ends by itself
 */
export async function runCamera(one, { signal, onNote }) {
  onNote("Starting the camera", null);
  const stream = await open();
  const video = document.createElement("video");
  const times = [];
  let feed;
  try {
    signal.throwIfAborted();
    video.muted = video.playsInline = true;
    video.srcObject = stream;
    await video.play();
    await new Promise((resolve, reject) => {
      const onAnswer = (answer, { canvas }) => {
        times.push(performance.now());
        if (times.length > RECENT) times.shift();
        if (!signal.aborted) patch(one.id, { answer, source: canvas, note: "", facts: factsOf(times, answer.ms) });
      };
      const onRefused = ({ message }) => patch(one.id, { facts: message });
      signal.addEventListener("abort", () => reject(signal.reason), { once: true });
      stream.getVideoTracks()[0].addEventListener("ended", () => reject(new Fault("The camera was unplugged.")));
      openFeed(one.name, "live", { onAnswer, onRefused, onFault: reject }, onNote).then((opened) => {
        feed = opened;
        pump(video, feed, signal);
      }).catch(reject);
    });
    return {};
  } finally {
    feed?.close();
    for (const track of stream.getTracks()) track.stop();
    video.srcObject = null;
  }
}
