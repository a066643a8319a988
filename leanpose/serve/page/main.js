/** The page: its parts are put together here, and buttons find what they do. */

import { download, mountDownloads } from "./download.js";
import { choose, mountIntake, openCamera } from "./intake.js";
import { again, cancel, mountJobs } from "./jobs.js";
import { mountPersons } from "./persons.js";
import { forgetClips, togglePlay } from "./player.js";
import { findPlaces, mountSettings, reset } from "./settings.js";
import { mountStage } from "./stage.js";
import { get, select, set, subscribe } from "./store.js";
import { mountStrip } from "./strip.js";
import { takeFromAddress } from "./token.js";

/** Do something with the item on the stage. @param {(id: number) => void} act */
const withSelected = (act) => () => {
  const { selected } = get();
  if (selected !== null) act(selected);
};

/** Take an item off the page; its neighbour is shown. @param {number} id */
function remove(id) {
  const { items } = get();
  const at = items.findIndex((one) => one.id === id);
  const left = items.filter((one) => one.id !== id);
  set({ items: left });
  select(left[Math.min(at, left.length - 1)]?.id ?? null);
}

/** @type {Object<string, () => void>} what the buttons named by data-do do */
const ACTIONS = {
  choose,
  camera: openCamera,
  cancel: withSelected(cancel),
  retry: withSelected(again),
  remove: withSelected(remove),
  clear: () => {
    set({ items: [] });
    select(null);
  },
  play: withSelected(togglePlay),
  "stop-camera": withSelected(cancel),
  reset,
  json: () => download("json"),
  csv: () => download("csv"),
  png: () => download("png"),
};

/** A button that goes away while it has the focus hands it on. */
function keepFocus() {
  const at = document.activeElement;
  if (!at || at === document.body || (at.checkVisibility?.() ?? true)) return;
  const others = [...document.querySelectorAll('[data-do="choose"]')];
  /** @type {HTMLElement|undefined} */ (others.find((button) => button.checkVisibility()))?.focus();
}

takeFromAddress();
const mounts = [mountSettings, mountStage, mountPersons, mountStrip, mountDownloads, mountIntake, mountJobs];
for (const mount of mounts) mount();
subscribe(forgetClips);
subscribe(keepFocus);
document.addEventListener("click", ({ target }) => {
  const name = target instanceof Element && target.closest("[data-do]")?.getAttribute("data-do");
  if (name) ACTIONS[name]();
});
findPlaces();
