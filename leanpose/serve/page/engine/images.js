/** Images in: files, and what the browser shows, become pixels. */

/** What keeps the stored values of an image file: no conversion of colours, and colours not multiplied by alpha. */
export const AS_STORED = { colorSpaceConversion: "none", premultiplyAlpha: "none" };

/**
 * Return the pixels of an image; alpha is left aside, as a file's colours are stored.
 * @param {Blob | ImageBitmap | ImageData} source
 * @returns {Promise<import("./resample.js").Pixels>}
 */
export async function readPixels(source) {
  if (source instanceof ImageData) return source;
  const bitmap = source instanceof Blob ? await decoded(source) : source;
  const { width, height } = bitmap;
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const pixels = context.getImageData(0, 0, width, height);
  const straight = isOpaque(pixels) ? pixels : (readWithAlpha(bitmap) ?? pixels);
  bitmap.close();
  return straight;
}

function isOpaque({ data }) {
  for (let i = 3; i < data.length; i += 4) if (data[i] !== 255) return false;
  return true;
}

async function decoded(blob) {
  try {
    return await createImageBitmap(blob, AS_STORED);
  } catch {
    throw new Error(`${blob.name ?? "The file"} is not an image that this browser can read; use JPEG, PNG or WebP.`);
  }
}

/** Read a bitmap by WebGL, since a canvas multiplies colours by alpha; null where there is none, or it is too large. */
function readWithAlpha(bitmap) {
  const { width, height } = bitmap;
  const gl = new OffscreenCanvas(1, 1).getContext("webgl");
  if (!gl || Math.max(width, height) > gl.getParameter(gl.MAX_TEXTURE_SIZE)) return null;
  gl.pixelStorei(gl.UNPACK_COLORSPACE_CONVERSION_WEBGL, gl.NONE);
  const texture = gl.createTexture();
  gl.bindTexture(gl.TEXTURE_2D, texture);
  gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, bitmap);
  gl.bindFramebuffer(gl.FRAMEBUFFER, gl.createFramebuffer());
  gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, texture, 0);
  const data = new Uint8Array(4 * width * height);
  gl.readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, data);
  gl.getExtension("WEBGL_lose_context")?.loseContext();
  return { data, width, height };
}
