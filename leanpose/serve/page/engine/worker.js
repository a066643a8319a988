/**
 * The thread that the networks run in, so that the page stays responsive.
 *
 * In: {id, action: "load", ...setup} or {id, action: "predict", ...setup, source, options}; a setup is two networks of
 * the manifest (detector may be null), its rules and version, the least person score, and the address of the files with
 * the headers of requests to it.
 * Out: {id, bytes} for each part of a file that came, then {id, result} or {id, error}.
 */

import { posesOfImage } from "./bottom_up.js";
import { detected } from "./detect.js";
import { loadEngine } from "./engine.js";
import { readPixels } from "./images.js";
import { checkBoxes, wholeImage } from "./preprocess.js";
import { toJson } from "./results.js";
import { confidence, posesInBoxes, rescored } from "./top_down.js";

const { fround } = Math;
const engines = new Map(); // address of a file -> promise of its engine
const ACTIONS = { load, predict };
let queue = Promise.resolve(); // one thing at a time: a network has one memory

self.addEventListener("message", ({ data }) => {
  queue = queue.then(() => answer(data));
});

async function answer({ id, action, ...request }) {
  try {
    const result = await ACTIONS[action](request, (bytes) => self.postMessage({ id, bytes }));
    self.postMessage({ id, result });
  } catch (error) {
    self.postMessage({ id, error: error.message ?? String(error) });
  }
}

/** Load a network and the detector that it needs. */
async function load({ network, detector, place }, onBytes) {
  for (const needed of [network, detector]) {
    if (needed) await engineOf(needed, place, onBytes);
  }
}

function engineOf(network, place, onBytes = () => {}) {
  const address = place.base + network.file;
  if (!engines.has(address)) {
    const loading = loadEngine(network, place, onBytes);
    loading.catch(() => engines.delete(address)); // so that it can be tried again
    engines.set(address, loading);
  }
  return engines.get(address);
}

/** Find the persons of an image, as leanpose.Predictor does. */
async function predict({ network, detector, place, rules, version, least, source, options }) {
  const image = await readPixels(source);
  const engine = await engineOf(network, place), finder = detector && (await engineOf(detector, place));
  const asked = leastScore(options.minPersonScore, least);
  const persons = await estimated(image, engine, finder, options.boxes, asked, rules);
  const made = provenance(version, network, detector, asked);
  return toJson(options.name ?? source.name ?? "", image, persons, network, made);
}

/** Return the persons in boxes, or those that are found, of a score, best first. */
async function estimated(image, engine, finder, boxes, least, rules) {
  const { network } = engine;
  const confident = (persons) => persons.filter(({ personScore }) => personScore >= fround(least));
  if (network.task === "bottom_up") {
    if (boxes) throw new Error(`${network.name} finds persons without boxes; leave them out.`);
    return confident(await posesOfImage(engine, image, rules));
  }
  if (boxes) return posesInBoxes(engine, image, checkBoxes(boxes, image, rules.farthest));
  if (!finder) return posesInBoxes(engine, image, [wholeImage(image)]);
  const found = await detected(finder, image, rules);
  const promising = found.filter(({ score }) => confidence(score) >= fround(least));
  const persons = await posesInBoxes(engine, image, promising.map(({ box }) => box));
  return confident(rescored(persons, promising.map(({ score }) => confidence(score)), network, rules));
}

function leastScore(given, usual) {
  if (given == null) return usual;
  if (!(given >= 0 && given <= 1)) throw new Error(`minPersonScore must be 0 to 1, not ${given}.`);
  return given;
}

function provenance(version, network, detector, least) {
  return {
    version,
    model: network.name,
    sha256: network.sha256,
    detector: detector && detector.name,
    flip_test: false,
    min_person_score: least,
    calibrated: network.calibration !== null,
  };
}
