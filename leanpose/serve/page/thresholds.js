/** From which scores on keypoints and persons are shown. */

import { get, model } from "./store.js";

/** Two places, rounded down: a score that is told is one from which on the thing is shown. @param {number} score */
export const scoreText = (score) => (Math.floor(100 * score + 1e-6) / 100).toFixed(2);

/** @returns {import("./skeleton.js").Thresholds} */
export function thresholds() {
  const { minScore, minPersonScore } = get();
  const its = model();
  return {
    minScore: minScore ?? its?.min_score ?? 0,
    minPersonScore: minPersonScore ?? its?.min_person_score ?? 0,
  };
}
