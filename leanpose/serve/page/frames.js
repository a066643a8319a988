/** Frames of a clip or a camera to poses: through the server's WebSocket, or on this device. */

import { askDevice, answerOf, asked, localPredictor, question } from "./predict.js";
import { Fault, LiveSocket } from "./server.js";
import { get } from "./store.js";

/** @typedef {{canvas: HTMLCanvasElement, time: number, began: number}} Shot */
/** @typedef {(answer: import("./store.js").Answer, shot: Shot) => void} OnAnswer */
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

/** @param {OnAnswer} onAnswer @param {(error: unknown) => void} onFault @param {"live"|"off"} smooth @returns {Feed} */
function serverFeed(onAnswer, onFault, smooth) {
  const about = question();
  let encoding = 0;
  const socket = new LiveSocket({ ...asked(), track: "true", smooth }, {
    onAnswer: (text, shot) => onAnswer(answerOf(text, about, shot.began), shot),
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

/** @param {any} predictor @param {string} name @param {OnAnswer} onAnswer @param {(error: unknown) => void} onFault */
function deviceFeed(predictor, name, onAnswer, onFault) {
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
 * @param {OnAnswer} onAnswer @param {(error: unknown) => void} onFault
 * @param {(note: string, progress: number|null) => void} onNote
 * @returns {Promise<Feed>}
 */
export async function openFeed(name, smooth, onAnswer, onFault, onNote) {
  if (get().where === "server") return serverFeed(onAnswer, onFault, smooth);
  return deviceFeed(await localPredictor(onNote), name, onAnswer, onFault);
}
