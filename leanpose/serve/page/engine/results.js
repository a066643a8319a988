/** Results as the server and `leanpose predict --format json` write them. */

import { toEven } from "./resample.js";

/**
 * Return one image's result.
 * @param {string} name of the image.
 * @param {import("./resample.js").Pixels} image
 * @param {import("./top_down.js").Person[]} persons
 * @param {Object} network of the manifest.
 * @param {Object} provenance how it was made.
 */
export function toJson(name, { width, height }, persons, network, provenance) {
  return {
    leanpose: provenance,
    image: name,
    width,
    height,
    keypoint_set: network.keypoint_set,
    persons: persons.map((person) => ({
      score: rounded(person.personScore, 4),
      box_xyxy: person.box.map((value) => rounded(value, 2)),
      keypoints: Object.fromEntries(
        network.keypoints.map((keypoint, k) => {
          const [x, y] = person.keypoints[k].map((value) => rounded(value, 2));
          return [keypoint, { x, y, score: rounded(person.scores[k], 4) }];
        }),
      ),
    })),
  };
}

/** Round to some digits, an exact half to even, as Python does. */
export function rounded(value, digits) {
  const isHalf = Math.abs((value * 2 ** (digits + 1)) % 2) === 1;
  return isHalf ? toEven(value * 10 ** digits) / 10 ** digits : Number(value.toFixed(digits));
}
