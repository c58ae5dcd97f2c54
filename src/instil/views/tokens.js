"use strict";
// Tokens as elements: on the mask page and on the chat page. Everything from the data goes in as text, never as markup.

function make(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

const CONTROL = /[\u0000-\u001f\u007f-\u009f\u00a0\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]| /g;

function write(span, text) {
  if (!text) span.append(make("span", "sign", "◦")); // a part of a character that a later token ends
  let at = 0;
  for (const found of text.matchAll(CONTROL)) {
    if (found.index > at) span.append(text.slice(at, found.index));
    at = found.index + 1;
    const sign = found[0];
    if (sign === " ") span.append(make("span", "sp", " "));
    else if (sign === "\n") span.append(make("span", "sign", "↵"), "\n");
    else if (sign === "\t") span.append(make("span", "sign", "→"), "\t");
    else span.append(make("span", "sign", name(sign)));
  }
  if (at < text.length) span.append(text.slice(at));
}

function name(sign) {
  const code = sign.charCodeAt(0);
  if (code < 32) return String.fromCharCode(0x2400 + code);
  return `⟨${code.toString(16).toUpperCase().padStart(4, "0")}⟩`;
}
