/** From which scores on keypoints and persons are shown. */

import { get, model } from "./store.js";

/** @returns {import("./skeleton.js").Thresholds} */
export function thresholds() {
  const { minScore, minPersonScore } = get();
  const its = model();
  return {
    minScore: minScore ?? its?.min_score ?? 0,
    minPersonScore: minPersonScore ?? its?.min_person_score ?? 0,
  };
}
