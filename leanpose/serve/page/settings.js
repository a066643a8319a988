/** Settings: where the network runs, which one, and from which scores on something is shown. */

import { deviceModels } from "./device.js";
import { part, write } from "./dom.js";
import { again } from "./jobs.js";
import { askedPersonScore } from "./predict.js";
import { askModels } from "./server.js";
import { get, set, subscribe } from "./store.js";
import { thresholds } from "./thresholds.js";

/** What the server offers; null: there is none. */
let offered = null;
let choices = 0;

/** Choose where the network runs. @param {"server"|"device"} where */
async function choosePlace(where) {
  const choice = (choices += 1);
  try {
    const { models, default: usual, limits } = where === "server" ? offered : await deviceModels();
    if (choice !== choices) return; // another place was chosen meanwhile
    const kept = models.some(({ name }) => name === get().model);
    set({ where, models, model: kept ? get().model : usual, limits: limits ?? null, fault: "" });
    again();
  } catch (error) {
    set({ fault: error instanceof Error ? error.message : String(error) });
  }
}

/** Find out what is there: a server, or only files. */
export async function findPlaces() {
  try {
    offered = await askModels();
  } catch (error) {
    set({ fault: `${/** @type {Error} */ (error).message} Reload the page to give it.` });
    return;
  }
  set({ hasServer: offered !== null, version: offered?.version ?? "" });
  await choosePlace(offered ? "server" : "device");
  if (!get().models.length) {
    set({ fault: "No server answers here, and the page has no networks. Start leanpose serve, then reload." });
  }
}

/** @param {import("./store.js").Model} one */
const labelOf = ({ name, keypoints }) => `${name} (${keypoints.length} keypoints)`;

function renderModels(models) {
  const select = part("model");
  const key = models.map(({ name }) => name).join();
  select.disabled = !models.length;
  if (select.dataset.names !== key) {
    select.dataset.names = key;
    select.replaceChildren(...models.map((one) => new Option(labelOf(one), one.name)));
  }
  if (get().model) select.value = get().model;
}

function renderSlider(id, value) {
  part(id).value = value;
  part(`${id}-value`).textContent = value.toFixed(2);
}

function render({ where, hasServer, models, fault, version }) {
  part("where").hidden = !hasServer;
  part(`where-${where}`).checked = true;
  renderModels(models);
  const { minScore, minPersonScore } = thresholds();
  renderSlider("min-score", minScore);
  renderSlider("min-person-score", minPersonScore);
  part("notice").hidden = !fault;
  write(part("notice-text"), fault);
  const place = where === "server" ? `go to ${location.host} and nowhere else` : "stay on this device";
  write(part("privacy"), models.length ? `Images ${place}.` : "");
  write(part("version"), version);
}

/** Begin to show the settings, and to follow them. */
export function mountSettings() {
  for (const where of ["server", "device"]) {
    part(`where-${where}`).addEventListener("change", () => choosePlace(/** @type {any} */ (where)));
  }
  part("model").addEventListener("change", ({ target }) => {
    set({ model: target.value, minScore: null, minPersonScore: null });
    again();
  });
  part("settings").addEventListener("submit", (event) => event.preventDefault());
  part("min-score").addEventListener("input", ({ target }) => set({ minScore: Number(target.value) }));
  const slider = part("min-person-score");
  slider.addEventListener("input", () => set({ minPersonScore: Number(slider.value) }));
  slider.addEventListener("change", () => {
    const score = askedPersonScore();
    if (score !== null && get().items.some(({ answer }) => answer && answer.least > score)) again();
  });
  subscribe(render);
}

/** Show what the network's authors mean to be shown. */
export function reset() {
  set({ minScore: null, minPersonScore: null });
}
