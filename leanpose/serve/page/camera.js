/** The camera: its frames to poses as they come. What is not answered yet is left out, so nothing lags behind. */

import { abortOf, openFeed, shotOf } from "./frames.js";
import { Refusal } from "./live.js";
import { nextFrame } from "./player.js";
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

/**
 * Send frames as long as the signal does not end it.
 * @param {HTMLVideoElement} video @param {import("./frames.js").Feed} feed @param {AbortSignal} signal
 * @param {(answer: import("./store.js").Answer, shot: import("./frames.js").Shot) => void} onAnswer
 * @param {(message: string) => void} onRefusal of one frame
 * @returns {Promise<never>} rejects with a fault that ends it
 */
function pump(video, feed, signal, onAnswer, onRefusal) {
  return new Promise((_, reject) => {
    const step = () => {
      if (signal.aborted) return;
      nextFrame(video, step);
      if (!feed.ready() || !video.videoWidth) return;
      const shot = shotOf(video, video.currentTime);
      feed.ask(shot).then((answer) => answer && !signal.aborted && onAnswer(answer, shot))
        .catch((error) => (error instanceof Refusal ? onRefusal(error.message) : reject(error)));
    };
    step();
  });
}

/**
 * @param {import("./store.js").Item} one
 * @param {import("./jobs.js").Options} options
 * @returns {Promise<never>} rejects when it is ended
 */
export async function runCamera(one, { signal, onNote }) {
  onNote("Starting the camera", null);
  const stream = await open();
  const [track] = stream.getVideoTracks();
  const video = document.createElement("video");
  const times = [];
  const onAnswer = (answer, { canvas }) => {
    times.push(performance.now());
    if (times.length > RECENT) times.shift();
    patch(one.id, { answer, source: canvas, note: "", facts: factsOf(times, answer.ms) });
  };
  const unplugged = new Promise((_, reject) => {
    track.addEventListener("ended", () => reject(new Fault("The camera was unplugged.")));
  });
  /** @type {import("./frames.js").Feed|undefined} */
  let feed;
  try {
    video.muted = video.playsInline = true;
    video.srcObject = stream;
    await video.play();
    feed = await openFeed(one.name, "live", onNote);
    const pumping = pump(video, feed, signal, onAnswer, (facts) => patch(one.id, { facts }));
    return /** @type {never} */ (await Promise.race([pumping, feed.over, unplugged, abortOf(signal)]));
  } finally {
    feed?.close();
    track.stop();
    video.srcObject = null;
  }
}
