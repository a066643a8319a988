/** The networks in this browser, by engine/ as far as it is there. It is loaded when it is first needed. */

import { Fault } from "./server.js";

/** @type {Promise<{engine: any, manifest: any}>|null} */
let loading = null;
/** @type {Map<string, Promise<any>>} */
const predictors = new Map();

async function load() {
  try {
    const engine = await import("./engine/predictor.js");
    return { engine, manifest: await engine.loadManifest() };
  } catch (error) {
    loading = null;
    console.info("engine/predictor.js:", String(error));
    throw new Fault("The networks for this device are not part of this page.");
  }
}

/** What models/manifest.json says. @returns {Promise<any>} */
export async function deviceModels() {
  loading ??= load();
  return (await loading).manifest;
}

/**
 * @param {string} name of a network
 * @param {(loaded: number, total: number) => void} onProgress bytes of the networks
 * @returns {Promise<any>} a LocalPredictor
 */
export async function devicePredictor(name, onProgress) {
  loading ??= load();
  const { engine, manifest } = await loading;
  if (!predictors.has(name)) {
    const predictor = engine.LocalPredictor.load(manifest, name, { onProgress });
    predictors.set(name, predictor);
    predictor.catch(() => predictors.delete(name));
  }
  return predictors.get(name);
}
