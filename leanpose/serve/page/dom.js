/** Find parts of the page, and write into them. */

/** @param {string} id @returns {any} */
export const part = (id) => document.getElementById(id);

/** A button by what it does. @param {string} action of data-do @param {string} where selector @returns {any} */
export const button = (action, where = "body") => document.querySelector(`${where} [data-do="${action}"]`);

/** Write a text where it differs, so that screen readers are told of changes alone. */
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
