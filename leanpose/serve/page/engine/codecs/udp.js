/** UDP (arXiv 1911.07524): as DARK, with the Newton step also at the border. */

import { logAroundPeak, newtonStep } from "./dark.js";
import { decodeMaps, findPeak } from "./heatmap.js";

/** Arguments and result are those of `dark`. */
export function udp(codec, outputs, inputSize) {
  return decodeMaps(codec, outputs, inputSize, (map) => {
    const { peak, score } = findPeak(map);
    const [x, y] = peak;
    if (!(score > 0)) return { keypoint: peak, score };
    const log = logAroundPeak(map, peak, 1, codec, true);
    // beyond the outermost row or column, then the peak's own, stands the same one again
    if (y === 0) log[0] = [...log[1]];
    if (y === map.height - 1) log[2] = [...log[1]];
    for (const row of log) {
      if (x === 0) row[0] = row[1];
      if (x === map.width - 1) row[2] = row[1];
    }
    const [[corner, above], [left, center, right], [, below, opposite]] = log;
    const [dx, dy] = newtonStep(
      {
        dx: (right - left) / 2,
        dy: (below - above) / 2,
        dxx: right - 2 * center + left,
        dyy: below - 2 * center + above,
        dxy: (opposite + corner + 2 * center - left - right - above - below) / 2,
      },
      codec.max_step,
    );
    return { keypoint: [x + dx, y + dy], score };
  });
}
