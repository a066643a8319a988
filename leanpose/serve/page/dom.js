/** Find parts of the page. */

/** @param {string} id @returns {any} */
export const part = (id) => document.getElementById(id);

/** A button by what it does. @param {string} action of data-do @param {string} where selector @returns {any} */
export const button = (action, where = "body") => document.querySelector(`${where} [data-do="${action}"]`);
