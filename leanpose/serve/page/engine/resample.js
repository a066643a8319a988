/**
 * Pixels out of pixels, with the rounding of OpenCV 5: so a crop in the browser is the crop of the server.
 *
 * @typedef {{data: Uint8ClampedArray, width: number, height: number}} Pixels RGBA, row by row; alpha is not looked at.
 * @typedef {number[]} Matrix Six numbers, row by row: x' = m[0] x + m[1] y + m[2], y' = m[3] x + m[4] y + m[5].
 */

const { fround, floor, ceil, min, max, abs } = Math;
// A Uint8ClampedArray rounds half to even and saturates what is stored in it, as OpenCV does.

/**
 * Fill a grid with what an affine map brings there: bilinear, black outside (cv2.warpAffine, INTER_LINEAR).
 * @param {Pixels} image
 * @param {Matrix} matrix image pixels -> pixels of the result.
 * @param {[number, number]} size height and width of the result.
 * @returns {Pixels}
 */
export function warpAffine(image, matrix, [height, width]) {
  const back = invertAsOpenCV(matrix).map(fround);
  const result = blank(height, width);
  const tap = [0, 0, 0, 0];
  for (let y = 0, to = 0; y < height; y++) {
    const startX = fround(fround(y * back[1]) + back[2]), startY = fround(fround(y * back[4]) + back[5]);
    for (let x = 0; x < width; x++, to += 4) {
      const fromX = fround(back[0] * x + startX), fromY = fround(back[3] * x + startY);
      const left = floor(fromX), top = floor(fromY);
      const shareX = fround(fromX - left), shareY = fround(fromY - top);
      for (let corner = 0; corner < 4; corner++) {
        const column = left + (corner & 1), row = top + (corner >> 1);
        const inside = column >= 0 && row >= 0 && column < image.width && row < image.height;
        tap[corner] = inside ? 4 * (row * image.width + column) : -1;
      }
      for (let c = 0; c < 3; c++) {
        const upper = between(value(image, tap[0], c), value(image, tap[1], c), shareX);
        const lower = between(value(image, tap[2], c), value(image, tap[3], c), shareX);
        result.data[to + c] = between(upper, lower, shareY);
      }
    }
  }
  return result;
}

const value = (image, place, channel) => (place < 0 ? 0 : image.data[place + channel]);

const between = (a, b, share) => fround(share * fround(b - a) + a);

/** The inverse as cv2.warpAffine computes it. */
function invertAsOpenCV([a, b, c, d, e, f]) {
  const scale = 1 / (a * e - b * d);
  const [ia, ib, id, ie] = [e * scale, -b * scale, -d * scale, a * scale];
  return [ia, ib, -ia * c - ib * f, id, ie, -id * c - ie * f];
}

/**
 * Shrink a part of an image by a whole factor: each pixel is the mean of a block (cv2.resize, INTER_AREA).
 * @param {Pixels} image
 * @param {number} left
 * @param {number} top where the part begins.
 * @param {[number, number]} size height and width of the result.
 * @param {number} factor
 * @returns {Pixels}
 */
export function shrinkByWhole(image, left, top, [height, width], factor) {
  const result = blank(height, width);
  const share = fround(1 / (factor * factor));
  const mean = factor === 2 ? (sum) => (sum + 2) >> 2 : (sum) => fround(sum * share);
  const { data } = image, line = 4 * (image.width - factor);
  for (let y = 0, to = 0; y < height; y++) {
    for (let x = 0; x < width; x++, to += 4) {
      let red = 0, green = 0, blue = 0;
      let from = 4 * ((top + factor * y) * image.width + left + factor * x);
      for (let row = 0; row < factor; row++, from += line) {
        for (let column = 0; column < factor; column++, from += 4) {
          red += data[from];
          green += data[from + 1];
          blue += data[from + 2];
        }
      }
      result.data[to] = mean(red);
      result.data[to + 1] = mean(green);
      result.data[to + 2] = mean(blue);
    }
  }
  return result;
}

/**
 * Shrink an image to any size; each pixel is the mean of the area that it covers (cv2.resize, INTER_AREA).
 * @param {Pixels} image
 * @param {[number, number]} size height and width of the result, none larger than the image's.
 * @returns {Pixels}
 */
export function shrink(image, [height, width]) {
  if (image.height === 2 * height && image.width === 2 * width) return shrinkByWhole(image, 0, 0, [height, width], 2);
  const columns = areaTable(image.width, width), rows = areaTable(image.height, height);
  const result = blank(height, width);
  const sums = new Float32Array(3 * width), line = new Float32Array(3 * width);
  for (let y = 0; y < height; y++) {
    sums.fill(0);
    for (let part = rows.starts[y]; part < rows.starts[y + 1]; part++) {
      shrinkRow(image, rows.places[part], columns, line);
      for (let i = 0; i < sums.length; i++) sums[i] += fround(rows.shares[part] * line[i]);
    }
    for (let x = 0; x < width; x++) {
      for (let c = 0; c < 3; c++) result.data[4 * (y * width + x) + c] = sums[3 * x + c];
    }
  }
  return result;
}

/** Shrink one row of an image into a line of red, green and blue. */
function shrinkRow({ data, width }, row, { starts, places, shares }, line) {
  for (let x = 0; x + 1 < starts.length; x++) {
    let red = 0, green = 0, blue = 0;
    for (let part = starts[x]; part < starts[x + 1]; part++) {
      const from = 4 * (row * width + places[part]), share = shares[part];
      red = fround(red + fround(share * data[from]));
      green = fround(green + fround(share * data[from + 1]));
      blue = fround(blue + fround(share * data[from + 2]));
    }
    line[3 * x] = red;
    line[3 * x + 1] = green;
    line[3 * x + 2] = blue;
  }
}

/** Return the parts of a shrunk axis, the old pixel and its share each, and where those of each new pixel start. */
function areaTable(oldLength, length) {
  const scale = oldLength / length, tiny = 1e-3;
  const starts = [], places = [], shares = [];
  const add = (place, share) => {
    places.push(place);
    shares.push(share);
  };
  for (let i = 0; i < length; i++) {
    starts.push(places.length);
    const start = i * scale, stop = start + scale, covered = min(scale, oldLength - start);
    const last = min(floor(stop), oldLength - 1), first = min(ceil(start), last);
    if (first - start > tiny) add(first - 1, (first - start) / covered);
    for (let k = first; k < last; k++) add(k, 1 / covered);
    if (stop - last > tiny) add(last, min(stop - last, 1, covered) / covered);
  }
  starts.push(places.length);
  return { starts: Int32Array.from(starts), places: Int32Array.from(places), shares: Float32Array.from(shares) };
}

/**
 * Bring an image to another size, bilinearly (cv2.resize, INTER_LINEAR).
 * @param {Pixels} image
 * @param {[number, number]} size height and width of the result.
 * @returns {Pixels}
 */
export function resize(image, [height, width]) {
  if (image.height === height && image.width === width) return image;
  const columns = linearTable(image.width, width, true), rows = linearTable(image.height, height, false);
  const result = blank(height, width);
  const { data } = image;
  for (let y = 0, to = 0; y < height; y++) {
    const [top, bottom, topShare, bottomShare] = rows[y];
    const upper = 4 * top * image.width, lower = 4 * bottom * image.width;
    for (let x = 0; x < width; x++, to += 4) {
      const [left, right, leftShare, rightShare] = columns[x];
      for (let c = 0; c < 3; c++) {
        const a = data[upper + 4 * left + c] * leftShare + data[upper + 4 * right + c] * rightShare;
        const b = data[lower + 4 * left + c] * leftShare + data[lower + 4 * right + c] * rightShare;
        result.data[to + c] = (((topShare * (a >> 4)) >> 16) + ((bottomShare * (b >> 4)) >> 16) + 2) >> 2;
      }
    }
  }
  return result;
}

/** For each new pixel of an axis its two old neighbours, and their shares in 2048ths. */
function linearTable(oldLength, length, level) {
  const scale = oldLength / length, last = oldLength - 1;
  return Array.from({ length }, (_, i) => {
    const place = fround((i + 0.5) * scale - 0.5), before = floor(place);
    const outside = level && (before < 0 || before >= last); // of columns; rows keep their shares there
    const share = outside ? 0 : fround(place - before);
    const first = min(max(before, 0), last), second = min(max(before + 1, 0), last);
    return [first, second, toEven(fround(1 - share) * 2048), toEven(share * 2048)];
  });
}

/** Round half to even. */
export function toEven(number) {
  const lower = floor(number);
  return abs(number - lower - 0.5) > 0 ? Math.round(number) : lower + (lower & 1);
}

/**
 * @param {number} height
 * @param {number} width
 * @param {number} border value of all colours.
 * @returns {Pixels}
 */
export function blank(height, width, border = 0) {
  return { data: new Uint8ClampedArray(4 * height * width).fill(border), width, height };
}
