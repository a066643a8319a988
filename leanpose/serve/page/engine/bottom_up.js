/** Bottom-up: all persons of an image from one look at it. */

import { calibrated } from "./calibration.js";
import { decode } from "./codecs/index.js";
import { boxAround, invert, transform } from "./geometry.js";
import { imageInput } from "./preprocess.js";

/**
 * Return all persons of one image, best first.
 * @param {import("./engine.js").Engine} engine of a bottom-up network.
 * @param {import("./resample.js").Pixels} image
 * @param {Object} rules of the manifest.
 * @returns {Promise<import("./top_down.js").Person[]>}
 */
export async function posesOfImage(engine, image, rules) {
  const { network } = engine;
  const { input, matrix, inputSize } = imageInput(image, network, network.short_sides[0], rules);
  const outputs = await engine.run(input, network.codec), back = invert(matrix);
  return decode(network.codec, outputs, inputSize).map(({ keypoints, scores: rawScores, personScore }) => {
    const inImage = keypoints.map((point) => transform(point, back).map(Math.fround));
    const scores = calibrated(rawScores, network.calibration);
    return { keypoints: inImage, scores, rawScores, personScore, box: boxAround(inImage, rules.box_margin) };
  });
}
