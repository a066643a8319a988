/** The persons of the selected image, and the keypoints of one of them as a table. */

import { part, write } from "./dom.js";
import { lookOf, readable } from "./look.js";
import { personsOf, pointsOf } from "./skeleton.js";
import { get, selected, set, subscribe } from "./store.js";
import { scoreText, thresholds } from "./thresholds.js";

/** Make an element. @param {string} tag @param {Object<string, any>} values @param {(Node|string)[]} children */
function make(tag, values = {}, ...children) {
  const element = document.createElement(tag);
  Object.assign(element, values);
  element.append(...children);
  return element;
}

/** Which person the table shows. @returns {number|null} position in the answer */
function chosen(answer) {
  const shown = personsOf(answer, thresholds());
  const { person } = get();
  return person !== null && shown.includes(person) ? person : shown[0] ?? null;
}

/** Buttons of the persons, made and removed as their number changes. */
function renderPersons(answer, person) {
  const group = part("persons");
  const shown = answer ? personsOf(answer, thresholds()) : [];
  while (group.children.length > shown.length) group.lastChild.remove();
  while (group.children.length < shown.length) {
    group.append(make("button", { type: "button" }, make("span"), make("span", { className: "score" })));
  }
  shown.forEach((position, i) => {
    const { id, score } = answer.result.persons[position];
    const button = group.children[i];
    button.dataset.person = String(position);
    write(button.firstChild, id === undefined ? `Person ${position + 1}` : `Person ${id}`);
    write(button.lastChild, scoreText(score));
    button.setAttribute("aria-pressed", String(position === person));
  });
}

/** One row per keypoint; built anew only for another keypoint set. */
function rowsFor({ keypoints: names }, { colours }) {
  const body = part("keypoints").tBodies[0];
  const key = names.join();
  if (body.dataset.names !== key) {
    body.dataset.names = key;
    body.replaceChildren(...names.map((name, k) => {
      const button = make("button", { type: "button", textContent: readable(name), tabIndex: k ? -1 : 0 });
      button.dataset.name = name;
      const meter = make("span", { className: "meter", ariaHidden: "true" }, make("span"));
      const dot = make("span", { className: "dot", ariaHidden: "true" });
      dot.style.background = colours[k];
      const head = make("th", { scope: "row" }, dot, button);
      const score = make("td", {}, meter, make("span"), make("span", { className: "unseen" }));
      return make("tr", {}, head, score, make("td"), make("td"));
    }));
  }
  return body.rows;
}

function renderRow(row, point, isMarked) {
  const shown = Boolean(point?.opacity);
  row.classList.toggle("off", !shown);
  row.classList.toggle("marked", isMarked);
  const [, score, x, y] = row.cells;
  const [meter, number, hint] = score.children;
  meter.firstChild.style.width = `${100 * Math.max(0, Math.min(point?.score ?? 0, 1))}%`;
  write(number, point ? scoreText(point.score) : "–");
  write(hint, shown ? "" : " not shown");
  write(x, point ? point.x.toFixed(1) : "–");
  write(y, point ? point.y.toFixed(1) : "–");
}

function render() {
  const one = selected();
  const answer = one?.answer ?? null;
  const person = answer ? chosen(answer) : null;
  renderPersons(answer, person);
  const found = answer?.result.persons.length ?? 0;
  const none = part("persons-none");
  none.hidden = person !== null;
  write(none, !one ? "No image yet." : !answer ? (one.state === "failed" ? "Nothing found." : "Nothing found yet.")
    : found ? "No person has this score. Lower the person score to see them."
      : "No person found. A lower person score shows weaker candidates.");
  const table = part("keypoints");
  table.parentElement.hidden = person === null;
  if (person === null) return;
  write(table.caption, `Keypoints of person ${person + 1}, in pixels of the image`);
  const points = pointsOf(answer, person, thresholds().minScore);
  const { keypoint } = get();
  const rows = rowsFor(answer.model, lookOf(answer.model));
  points.forEach((point, k) => {
    const name = answer.model.keypoints[k];
    renderRow(rows[k], point, keypoint?.person === person && keypoint.name === name);
  });
}

/** Point at a keypoint of the table on the stage too. @param {Event} event */
function point({ target }) {
  const button = target instanceof Element && target.closest("tr")?.querySelector("button");
  const answer = selected()?.answer;
  if (!button || !answer) return;
  set({ keypoint: { person: chosen(answer), name: button.dataset.name } });
}

/** One stop of the Tab key for all rows; arrow keys go from one to the next. @param {KeyboardEvent} event */
function walk(event) {
  const buttons = [...part("keypoints").tBodies[0].querySelectorAll("button")];
  const at = buttons.indexOf(/** @type {any} */ (event.target));
  const last = buttons.length - 1;
  const to = { ArrowDown: Math.min(at + 1, last), ArrowUp: Math.max(at - 1, 0), Home: 0, End: last }[event.key];
  if (at < 0 || to === undefined) return;
  event.preventDefault();
  buttons[at].tabIndex = -1;
  buttons[to].tabIndex = 0;
  buttons[to].focus();
}

/** Begin to show persons and keypoints. */
export function mountPersons() {
  const table = part("keypoints");
  const leave = () => set({ keypoint: null });
  table.addEventListener("focusin", point);
  table.addEventListener("focusout", leave);
  table.addEventListener("pointerover", point);
  table.addEventListener("pointerleave", leave);
  table.addEventListener("keydown", walk);
  part("persons").addEventListener("click", ({ target }) => {
    const button = target.closest("button");
    if (button) set({ person: Number(button.dataset.person) });
  });
  subscribe(render);
}
