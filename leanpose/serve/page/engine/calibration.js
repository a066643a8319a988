/** What a keypoint's score is worth: lines from raw scores to the chance that the keypoint is right. */

/**
 * Return the chances of raw scores; without a calibration, the scores as they are.
 * @param {number[]} scores one per keypoint.
 * @param {{raw: number[], chance: number[][]} | null} calibration a line of chances per keypoint.
 */
export function calibrated(scores, calibration) {
  if (!calibration) return scores;
  const { raw, chance } = calibration;
  return scores.map((score, k) => (score <= 0 ? 0 : Math.fround(interpolated(score, raw, chance[k]))));
}

/** Return y at x of a line through points, level beyond its ends. */
function interpolated(x, xs, ys) {
  const next = xs.findIndex((known) => known > x);
  if (next < 0) return ys[ys.length - 1];
  if (next === 0) return ys[0];
  const slope = (ys[next] - ys[next - 1]) / (xs[next] - xs[next - 1]);
  return slope * (x - xs[next - 1]) + ys[next - 1];
}
