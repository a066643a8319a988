/** Frames of a clip or a camera to poses: through the server's WebSocket, or on this device. */

import { LiveSocket } from "./live.js";
import { askDevice, answerOf, asked, localPredictor, question } from "./predict.js";
import { Fault } from "./server.js";
import { get } from "./store.js";

/** @typedef {{canvas: HTMLCanvasElement, time: number}} Shot */
/**
 * @typedef {Object} Feed
 * @property {() => boolean} ready whether a frame would be worked on soon
 * @property {(shot: Shot) => Promise<import("./store.js").Answer|null>} ask null if a newer frame took its place
 * @property {Promise<never>} over rejects when no frame will be answered any more
 * @property {() => void} close
 */

/** Copy the frame that a video shows. @param {HTMLVideoElement} video @param {number} time seconds @returns {Shot} */
export function shotOf(video, time) {
  const canvas = document.createElement("canvas");
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  canvas.getContext("2d")?.drawImage(video, 0, 0);
  return { canvas, time };
}

/** @param {HTMLCanvasElement} canvas @returns {Promise<Blob>} */
function jpegOf(canvas) {
  return new Promise((resolve, reject) => {
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Fault("The frame is empty."))), "image/jpeg", 0.9);
  });
}

/** @param {"live"|"off"} smooth @returns {Feed} */
function serverFeed(smooth) {
  const about = question();
  const socket = new LiveSocket({ ...asked(), track: "true", smooth });
  let encoding = false;
  return {
    ready: () => socket.ready && !encoding,
    ask: async ({ canvas }) => {
      const began = performance.now();
      encoding = true;
      const frame = await jpegOf(canvas).finally(() => {
        encoding = false;
      });
      const text = await socket.ask(frame);
      return text && answerOf(text, about, began);
    },
    over: socket.over,
    close: () => socket.close(),
  };
}

/** @param {any} predictor @param {string} name @returns {Feed} */
function deviceFeed(predictor, name) {
  let busy = false;
  return {
    ready: () => !busy,
    ask: ({ canvas }) => {
      busy = true;
      return askDevice(canvas, name, predictor).finally(() => {
        busy = false;
      });
    },
    over: new Promise(() => {}),
    close: () => {},
  };
}

/**
 * @param {string} name of the clip or camera
 * @param {"live"|"off"} smooth on the server
 * @param {(note: string, progress: number|null) => void} onNote
 * @returns {Promise<Feed>}
 */
export async function openFeed(name, smooth, onNote) {
  return get().where === "server" ? serverFeed(smooth) : deviceFeed(await localPredictor(onNote), name);
}

/** Rejects when work is given up. @param {AbortSignal} signal @returns {Promise<never>} */
export function abortOf(signal) {
  const aborted = new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason);
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
  aborted.catch(() => {}); // who waits for it is told; nobody may
  return /** @type {Promise<never>} */ (aborted);
}
