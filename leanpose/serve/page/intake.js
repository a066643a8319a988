/** Files come in: dropped, chosen or pasted. */

import { part } from "./dom.js";
import { get, add, patch, select } from "./store.js";

const MOST_SHOWN = 2560; // pixels of the longer side; memory would not do for many photos
const CLIP = /\.(mp4|m4v|mov|webm|ogv|mkv|avi|mpe?g)$/i;
const IMAGE = /\.(jpe?g|png|webp|gif|bmp|avif|heic|heif|tiff?|jp2|ppm|pgm)$/i;

/** @param {File} file */
function kindOf({ type, name }) {
  if (type.startsWith("video/") || CLIP.test(name)) return "clip";
  return type.startsWith("image/") || IMAGE.test(name) ? "image" : null;
}

/** The image to look at, of no more pixels than that takes; null where this browser cannot read its kind. */
async function bitmapOf(file) {
  try {
    const whole = await createImageBitmap(file);
    const scale = MOST_SHOWN / Math.max(whole.width, whole.height);
    if (scale >= 1) return whole;
    const [width, height] = [whole.width, whole.height].map((side) => Math.max(1, Math.round(scale * side)));
    const small = await createImageBitmap(whole, { resizeWidth: width, resizeHeight: height, resizeQuality: "high" });
    whole.close();
    return small;
  } catch {
    return null;
  }
}

/** Put files onto the page; the first of them is shown. @param {Iterable<File>} files */
export function takeFiles(files) {
  let first = null;
  for (const file of files) {
    const kind = kindOf(file);
    const name = file.name || "pasted.png";
    const one = kind === null
      ? add({ name, state: "failed", fault: `${name} is neither an image nor a clip.` })
      : add({ kind, name, file });
    first ??= one.id;
    if (kind === "image") bitmapOf(file).then((source) => patch(one.id, { source }));
  }
  if (first !== null) select(first);
}

/** @param {DragEvent} event */
const hasFiles = (event) => event.dataTransfer?.types.includes("Files") ?? false;

/** Listen for files. */
export function mountIntake() {
  const input = part("files");
  const veil = part("drop");
  input.addEventListener("change", () => {
    takeFiles(input.files ?? []);
    input.value = ""; // so that the same file can be chosen again
  });
  document.addEventListener("paste", (event) => {
    const files = event.clipboardData?.files ?? [];
    if (files.length) takeFiles(files);
  });
  document.addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    veil.hidden = false;
  });
  document.addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) veil.hidden = true;
  });
  document.addEventListener("drop", (event) => {
    veil.hidden = true;
    if (!hasFiles(event)) return;
    event.preventDefault();
    takeFiles(event.dataTransfer?.files ?? []);
  });
}

/** Open the dialog of files. */
export const choose = () => part("files").click();

/** Show the camera. */
export function openCamera() {
  const open = get().items.find((one) => one.kind === "camera");
  if (open) patch(open.id, open.state === "working" ? {} : { state: "waiting", fault: "" });
  select(open ? open.id : add({ kind: "camera", name: "Camera" }).id);
}
