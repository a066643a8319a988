/**
 * Find the persons of images in the browser itself; nothing leaves it. As leanpose.Predictor, with the networks of a
 * manifest that leanpose/serve/manifest.py writes.
 */

import { AS_STORED } from "./images.js";

let worker; // one for all predictors of a page, so that they share the detector
const waiting = new Map(); // number of a request -> what is called for it
let requests = 0;

/**
 * Fetch the list of networks.
 * @param {string} base address of the folder of the networks, relative to the page.
 * @param {Object<string, string>} headers sent with requests there, such as a token.
 * @returns {Promise<Object>}
 */
export async function loadManifest(base = "./models/", headers = {}) {
  const answer = await fetch(new URL("manifest.json", addressOf(base)), { headers }).catch(() => null);
  const manifest = answer?.ok ? await answer.json().catch(() => null) : null;
  if (!manifest?.networks) throw new Error("There are no networks for the browser here; use the server.");
  return manifest;
}

/** A network in the browser, with the detector that it needs. */
export class LocalPredictor {
  #setup;

  /** @private Use `load`. */
  constructor(setup) {
    this.#setup = setup;
  }

  /**
   * Load a network and, where it needs one, the detector.
   * @param {Object} manifest of `loadManifest`.
   * @param {string} name of a network in `manifest.models`.
   * @param {Object} [options]
   * @param {(loadedBytes: number, totalBytes: number) => void} [options.onProgress]
   * @param {string} [options.base] as of `loadManifest`.
   * @param {Object<string, string>} [options.headers] as of `loadManifest`.
   * @returns {Promise<LocalPredictor>}
   */
  static async load(manifest, name, { onProgress = () => {}, base = "./models/", headers = {} } = {}) {
    const model = manifest.models.find((one) => one.name === name);
    if (!model) throw new Error(`There is no network '${name}' for the browser.`);
    const network = manifest.networks[name];
    const detector = network.task === "top_down" && manifest.detector ? manifest.networks[manifest.detector] : null;
    const { version, rules } = manifest, least = model.min_person_score;
    const setup = { network, detector, rules, least, version, place: { base: addressOf(base), headers } };
    const total = manifest.runtime_bytes + network.bytes + (detector?.bytes ?? 0);
    let loaded = 0;
    await ask({ action: "load", ...setup }, [], (bytes) => onProgress((loaded += bytes), total));
    onProgress(total, total); // of what was loaded before nothing came
    return new LocalPredictor(setup);
  }

  /**
   * Find the persons of one image.
   * @param {Blob | ImageBitmap | ImageData | HTMLCanvasElement | HTMLVideoElement} source
   * @param {Object} [options]
   * @param {number[][]} [options.boxes] x1, y1, x2, y2 in image pixels of each person; without them a detector finds
   *   the persons, and they come best first.
   * @param {number} [options.minPersonScore] persons that were found with a lower score are left out, 0 to 1.
   * @param {string} [options.name] of the image, for the result.
   * @returns {Promise<Object>} what the server answers at v1/poses.
   */
  async predict(source, { boxes, minPersonScore, name } = {}) {
    const plain = source instanceof Blob || source instanceof ImageData;
    const sent = plain ? source : await createImageBitmap(source, AS_STORED);
    const options = { boxes, minPersonScore, name };
    return ask({ action: "predict", ...this.#setup, source: sent, options }, plain ? [] : [sent]);
  }
}

const addressOf = (base) => new URL(base, document.baseURI).href;

/** Send the worker a request and wait for its answer. */
function ask(request, transferred, onBytes = () => {}) {
  worker ??= started();
  const id = requests++;
  return new Promise((resolve, reject) => {
    waiting.set(id, { resolve, reject, onBytes });
    worker.postMessage({ id, ...request }, transferred);
  });
}

function started() {
  const thread = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
  thread.addEventListener("message", ({ data: { id, bytes, result, error } }) => {
    const { resolve, reject, onBytes } = waiting.get(id);
    if (bytes !== undefined) return onBytes(bytes);
    waiting.delete(id);
    if (error === undefined) resolve(result);
    else reject(new Error(error));
  });
  thread.addEventListener("error", () => {
    for (const { reject } of waiting.values()) reject(new Error("The networks cannot run in this browser."));
    waiting.clear();
    worker = undefined;
  });
  return thread;
}
