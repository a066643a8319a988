/** Frames of a clip or a camera to poses: through the server's WebSocket, or on this device. */

import { askDevice, answerOf, asked, localPredictor, question } from "./predict.js";
import { Fault, LiveSocket } from "./server.js";
import { get } from "./store.js";

/** @typedef {{canvas: HTMLCanvasElement, time: number, began: number}} Shot */
/**
 * @typedef {Object} Handlers
 * @property {(answer: import("./store.js").Answer, shot: Shot) => void} onAnswer
 * @property {(error: Error) => void} onRefused a frame was not answered; others may be
 * @property {(error: Error) => void} onFault no frame will be answered any more
 */
/**
 * @typedef {Object} Feed
 * @property {() => boolean} ready whether it takes a frame now
 * @property {(shot: Shot) => Promise<void>} send resolves when the frame is on its way
 * @property {() => void} close
 */

/** Copy the frame that a video shows. @param {HTMLVideoElement} video @param {number} time seconds @returns {Shot} */
export function shotOf(video, time) {
  const canvas = document.createElement("canvas");
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  canvas.getContext("2d")?.drawImage(video, 0, 0);
  return { canvas, time, began: performance.now() };
}

/** @param {HTMLCanvasElement} canvas @returns {Promise<Blob>} */
function jpegOf(canvas) {
  return new Promise((resolve, reject) => {
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Fault("The frame is empty."))), "image/jpeg", 0.9);
  });
}

/** @param {Handlers} handlers @param {"live"|"off"} smooth @returns {Feed} */
function serverFeed({ onAnswer, onRefused, onFault }, smooth) {
  const about = question();
  let encoding = 0;
  const socket = new LiveSocket({ ...asked(), track: "true", smooth }, {
    onAnswer: (text, shot) => onAnswer(answerOf(text, about, shot.began), shot),
    onRefused,
    onFault,
  });
  return {
    ready: () => socket.ready && encoding === 0,
    send: async (shot) => {
      encoding += 1;
      try {
        const frame = await jpegOf(shot.canvas);
        if (!socket.closed) socket.send(frame, shot);
      } finally {
        encoding -= 1;
      }
    },
    close: () => socket.close(),
  };
}

/** @param {any} predictor @param {string} name @param {Handlers} handlers @returns {Feed} */
function deviceFeed(predictor, name, { onAnswer, onFault }) {
  let busy = false;
  let closed = false;
  return {
    ready: () => !busy && !closed,
    send: async (shot) => {
      busy = true;
      askDevice(shot.canvas, name, predictor).then((answer) => closed || onAnswer(answer, shot), onFault).finally(() => {
        busy = false;
      });
    },
    close: () => {
      closed = true;
    },
  };
}

/**
 * @param {string} name of the clip or camera
 * @param {"live"|"off"} smooth
 * @param {Handlers} handlers
 * @param {(note: string, progress: number|null) => void} onNote
 * @returns {Promise<Feed>}
 */
export async function openFeed(name, smooth, handlers, onNote) {
  if (get().where === "server") return serverFeed(handlers, smooth);
  return deviceFeed(await localPredictor(onNote), name, handlers);
}
