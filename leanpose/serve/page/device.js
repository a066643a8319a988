/** The networks in this browser, by engine/ as far as it is there. It is loaded when it is first needed. */

import { Fault } from "./server.js";
import { authorization } from "./token.js";

/** @type {Promise<{engine: any, manifest: any}>|null} */
let loading = null;
/** @type {Map<string, Promise<any>>} */
const predictors = new Map();

async function load() {
  const engine = await import("./engine/predictor.js").catch(() => null);
  if (!engine) throw new Fault("This page cannot run networks on this device: its folder engine is not there.");
  try {
    return { engine, manifest: await engine.loadManifest(undefined, authorization()) };
  } catch (error) {
    throw new Fault(error instanceof Error ? error.message : String(error));
  }
}

function loaded() {
  loading ??= load().catch((error) => {
    loading = null; // it may be there the next time
    throw error;
  });
  return loading;
}

/** What models/manifest.json says. @returns {Promise<any>} */
export async function deviceModels() {
  return (await loaded()).manifest;
}

/**
 * @param {string} name of a network
 * @param {(loaded: number, total: number) => void} onProgress bytes of the networks
 * @returns {Promise<any>} a LocalPredictor
 */
export async function devicePredictor(name, onProgress) {
  const { engine, manifest } = await loaded();
  if (!predictors.has(name)) {
    const predictor = engine.LocalPredictor.load(manifest, name, { onProgress, headers: authorization() });
    predictors.set(name, predictor);
    predictor.catch(() => predictors.delete(name));
  }
  return predictors.get(name);
}
