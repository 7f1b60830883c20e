// Elements are made of text and attributes, never of markup: names come from messages, and may hold anything.

/** An element: attributes (`class`, `on…` listeners, anything else as it is), then children, text or elements. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Set an element's text, where it differs. */
export function say(element, text) {
  if (element.said !== text) {
    element.said = text;
    element.textContent = text;
  }
}

/** Set an attribute, where it differs. */
export function put(element, name, value) {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

/** Names with what does not print (control characters, marks that turn the text around) made visible. */
export function printable(name) {
  return name.replace(/[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g, "·");
}

/** The pattern that this name alone matches. */
export const onlyName = (name) => name.replace(/[*?[]/g, "[$&]");

export const entityLink = (name, target = 0) =>
  `#/entity/${encodeURIComponent(name)}${target ? `?target=${target}` : ""}`;

export const alertLink = (id) => `#/alert/${encodeURIComponent(id)}`;
