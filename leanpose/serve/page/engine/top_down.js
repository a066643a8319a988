/**
 * Top-down: the keypoints of one person per box.
 *
 * @typedef {Object} Person
 * @property {number[][]} keypoints x, y in image pixels.
 * @property {number[]} scores chances where the network is calibrated, else raw.
 * @property {number[]} rawScores
 * @property {number} personScore
 * @property {number[]} box
 */

import { calibrated } from "./calibration.js";
import { decode } from "./codecs/index.js";
import { invert, oksNms, paddedBox, transform } from "./geometry.js";
import { boxInput } from "./preprocess.js";

const { fround } = Math;

/**
 * Return the person in each box.
 * @param {import("./engine.js").Engine} engine of a top-down network.
 * @param {import("./resample.js").Pixels} image
 * @param {number[][]} boxes
 * @returns {Promise<Person[]>}
 */
export async function posesInBoxes(engine, image, boxes) {
  const { network } = engine, persons = [];
  for (const box of boxes) {
    const { input, matrix } = boxInput(image, box, network);
    const found = decode(network.codec, await engine.run(input, network.codec), network.input_size);
    persons.push(personIn(box, found, matrix, network));
  }
  return persons;
}

function personIn(box, { keypoints, scores: rawScores }, matrix, { bias, calibration }) {
  const back = invert(matrix);
  const inImage = keypoints.map((point) => transform(point, back).map((value) => fround(value - bias)));
  const personScore = fround(rawScores.reduce((sum, score) => sum + score, 0) / rawScores.length);
  return { keypoints: inImage, scores: calibrated(rawScores, calibration), rawScores, personScore, box };
}

/**
 * Judge persons by box and keypoints and leave out duplicates, best first.
 * @param {Person[]} persons
 * @param {number[]} boxScores confidence of each person's box.
 * @param {Object} network of the manifest.
 * @param {{keypoint_threshold: number, same_person_oks: number, fewest_shared_keypoints: number}} rules
 * @returns {Person[]}
 */
export function rescored(persons, boxScores, network, rules) {
  const judged = persons.map((person, i) => {
    const counting = person.rawScores.filter((score) => score > fround(rules.keypoint_threshold));
    const mean = counting.reduce((sum, score) => sum + score, 0) / Math.max(counting.length, 1);
    return { ...person, personScore: fround(boxScores[i] * mean) };
  });
  const [height, width] = network.input_size;
  const areas = judged.map(({ box }) => {
    const { size } = paddedBox(box, width / height, network.padding);
    return size[0] * size[1];
  });
  const kept = oksNms(
    judged.map(({ keypoints }) => keypoints),
    judged.map(({ personScore }) => personScore),
    areas,
    network.oks_sigmas,
    rules.same_person_oks,
    judged.map(({ rawScores }) => rawScores.map((score) => score > fround(rules.keypoint_threshold))),
    rules.fewest_shared_keypoints,
  );
  return kept.map((i) => judged[i]);
}

/** How much a detector's score of a box counts for a person. */
export const confidence = (boxScore) => fround(Math.sqrt(Math.max(boxScore, 0)));
