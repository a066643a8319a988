/** The state of the page, in one place. Parts read it, change it by `set` and `patch`, and are told by `subscribe`. */

/**
 * @typedef {Object} Model one network, as GET v1/models lists it
 * @property {string} name
 * @property {"top_down"|"bottom_up"} task
 * @property {boolean} calibrated
 * @property {number} min_score
 * @property {number} min_person_score
 * @property {string} keypoint_set
 * @property {string[]} keypoints
 * @property {[number, number][]} edges
 *
 * @typedef {Object} Person
 * @property {number} score
 * @property {[number, number, number, number]} box_xyxy
 * @property {Object<string, {x: number, y: number, score: number}>} keypoints
 * @property {number} [id]
 *
 * @typedef {Object} Result what `leanpose predict --format json` writes of one image
 * @property {string} image
 * @property {number} width
 * @property {number} height
 * @property {Person[]} persons
 *
 * @typedef {Object} Answer
 * @property {string} text the JSON, byte for byte
 * @property {Result} result the same, parsed
 * @property {Model} model what found it
 * @property {number} least the person score from which on persons are in it
 * @property {number} ms how long it took
 * @property {number} [time] seconds, of a frame of a clip
 *
 * @typedef {Object} Item an image, a clip or the camera
 * @property {number} id
 * @property {"image"|"clip"|"camera"} kind
 * @property {string} name
 * @property {Blob|null} file
 * @property {CanvasImageSource|null} source what is drawn below the skeletons; null: the browser cannot show it
 * @property {"waiting"|"working"|"done"|"failed"} state
 * @property {string} note what goes on, while it is working
 * @property {number|null} progress 0 to 1, null if not known
 * @property {string} fault one sentence, where it failed
 * @property {Answer|null} answer of the image or of the frame that is shown
 * @property {Answer[]} frames of a clip
 * @property {string} facts frame rate and delay, of the camera
 *
 * @typedef {Object} State
 * @property {"server"|"device"} where
 * @property {boolean} hasServer
 * @property {Model[]} models those of `where`
 * @property {string|null} model the name of the chosen one
 * @property {number|null} minScore null: the model's
 * @property {number|null} minPersonScore null: the model's
 * @property {Item[]} items
 * @property {number|null} selected id of an item
 * @property {number|null} person position in the answer of the person that the table shows
 * @property {{person: number, name: string}|null} keypoint the one pointed at
 * @property {string} fault of the page as a whole
 * @property {{bytes: number, pixels: number, images: number, seconds: number}|null} limits of the server
 * @property {string} version of the server
 */

/** @type {State} */
let state = {
  where: "server", hasServer: false, models: [], model: null, minScore: null, minPersonScore: null,
  items: [], selected: null, person: null, keypoint: null, fault: "", limits: null, version: "",
};
/** @type {Set<(state: State) => void>} */
const listeners = new Set();
let told = true;
let nextId = 1;

/** @returns {State} */
export const get = () => state;

/** Change values of the state; all who subscribed are told once, soon. @param {Partial<State>} values */
export function set(values) {
  state = { ...state, ...values };
  if (!told) return;
  told = false;
  queueMicrotask(() => {
    told = true;
    for (const listener of listeners) listener(state);
  });
}

/** @param {(state: State) => void} listener called now and after each change */
export function subscribe(listener) {
  listeners.add(listener);
  listener(state);
}

/** @param {number|null} id @returns {Item|undefined} */
export const item = (id) => state.items.find((one) => one.id === id);

/** @returns {Item|undefined} the item on the stage */
export const selected = () => item(state.selected);

/** @returns {Model|undefined} the chosen network */
export const model = () => state.models.find((one) => one.name === state.model);

/** Change values of an item, if it is still there. @param {number} id @param {Partial<Item>} values */
export function patch(id, values) {
  set({ items: state.items.map((one) => (one.id === id ? { ...one, ...values } : one)) });
}

/** Append an item. @param {Partial<Item>} values @returns {Item} */
export function add(values) {
  const one = /** @type {Item} */ ({
    id: nextId++, kind: "image", name: "", file: null, source: null, state: "waiting", note: "", progress: null,
    fault: "", answer: null, frames: [], facts: "", ...values,
  });
  set({ items: [...state.items, one] });
  return one;
}

/** Show an item on the stage. @param {number|null} id */
export const select = (id) => set({ selected: id, person: null, keypoint: null });
