/** Poses of an image, from the server or on this device, whichever is chosen. */

import { devicePredictor } from "./device.js";
import { Fault, askPoses } from "./server.js";
import { get, model } from "./store.js";

/** @typedef {import("./store.js").Answer} Answer */

/** The least person score to ask for; null: the model's own will do, since the page itself leaves out what is below. */
export function askedPersonScore() {
  const { minPersonScore } = get();
  return minPersonScore !== null && minPersonScore < (model()?.min_person_score ?? 0) ? minPersonScore : null;
}

/** What a request says of the network. @returns {Object<string, string|number>} */
export function asked() {
  const score = askedPersonScore();
  return { model: get().model ?? "", ...(score === null ? {} : { min_person_score: score }) };
}

/** What an answer says of its question, taken when it is put: settings may change before the answer comes. */
export function question() {
  const its = /** @type {import("./store.js").Model} */ (model());
  return { model: its, least: askedPersonScore() ?? its.min_person_score };
}

/**
 * @param {string} text JSON @param {ReturnType<typeof question>} about
 * @param {number} began of performance.now()
 * @returns {Answer}
 */
export function answerOf(text, about, began) {
  return { ...about, text, result: JSON.parse(text), ms: performance.now() - began };
}

/**
 * The network of this device, with notes on its download.
 * @param {(note: string, progress: number|null) => void} onNote
 */
export async function localPredictor(onNote) {
  onNote("Loading the network", null);
  const predictor = await devicePredictor(get().model ?? "", (loaded, total) => {
    const [have, all] = [loaded, total].map((bytes) => (bytes / 1e6).toFixed(1));
    if (loaded < total) onNote(`Loading the network, ${have} of ${all} MB`, loaded / total);
    else onNote("Starting the network", null);
  });
  onNote("", null);
  return predictor;
}

/**
 * @param {CanvasImageSource|Blob} source @param {string} name
 * @param {any} predictor a LocalPredictor
 * @returns {Promise<Answer>}
 */
export async function askDevice(source, name, predictor) {
  const began = performance.now();
  const about = question();
  const score = askedPersonScore();
  try {
    const result = await predictor.predict(source, { name, ...(score === null ? {} : { minPersonScore: score }) });
    return answerOf(JSON.stringify(result), about, began);
  } catch (error) {
    throw new Fault(error instanceof Error ? error.message : String(error));
  }
}

/**
 * @param {import("./store.js").Item} item an image
 * @param {{signal: AbortSignal, onNote: (note: string, progress: number|null) => void}} options
 * @returns {Promise<Answer>}
 */
export async function poses({ file, name }, { signal, onNote }) {
  const blob = /** @type {Blob} */ (file);
  if (get().where === "device") {
    const predictor = await localPredictor(onNote);
    signal.throwIfAborted();
    const answer = await askDevice(blob, name, predictor);
    signal.throwIfAborted();
    return answer;
  }
  const { limits } = get();
  if (limits && blob.size > limits.bytes) {
    const [has, most] = [blob.size, limits.bytes].map((bytes) => (bytes / 1e6).toFixed(1));
    throw new Fault(`${name} has ${has} MB; the server takes at most ${most} MB.`);
  }
  const began = performance.now();
  const about = question();
  const text = await askPoses(blob, name, asked(), { signal, onWait: (note) => onNote(note, null) });
  return answerOf(text, about, began);
}
