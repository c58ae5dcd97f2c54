/* Fetches a page and puts one element of it in place of the one that is here.

   <form data-swap="#jobs">  <a data-swap="#jobs">   send the form or follow the link, then replace #jobs
   <div id="jobs" data-src="/jobs">                  on its event "refresh": fetch the address, then replace itself

   The answer may be a whole page: the element with the id is taken out of it. So every form and link works without
   this script too. An answer with an error replaces the content of <main>.

   A live page changes under the hands of its reader. Three rules keep what the reader does:
   - nothing is replaced while something is pressed: a button that goes between press and release gets no click;
   - a refresh never ends a form that is on its way, and a form is sent once however often its button is pressed;
   - a second click counts only for the button of the first one: "Kill" may stand where "Stop now" was. */
"use strict";

const instil = window.instil = { pending: new Map() };

instil.announce = (text) => { const place = document.getElementById("announcement"); if (place) place.textContent = text; };

/* ---- what is pressed ---- */

(() => {
  const LONGEST = 10_000;  // a release outside the window, or over a scroll bar, may never be told
  let pressed = null, release = null, limit = null, clicked = "";

  const press = () => {
    clearTimeout(limit);
    limit = setTimeout(() => release?.(), LONGEST);
    pressed ||= new Promise((resolve) => { release = () => { pressed = release = null; resolve(); }; });
  };
  const end = () => { clearTimeout(limit); setTimeout(() => release?.(), 0); };  // the click comes first

  document.addEventListener("pointerdown", press, true);
  document.addEventListener("keydown", (event) => { if (event.key === " ") press(); }, true);
  for (const kind of ["pointerup", "pointercancel", "dragend", "keyup"]) document.addEventListener(kind, end, true);
  document.addEventListener("pointermove", (event) => { if (pressed && !event.buttons) end(); }, true);
  window.addEventListener("blur", end);

  /* Resolves when nothing is pressed. */
  instil.released = async () => { while (pressed) await pressed; };

  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("button"), name = button?.form ? `${button.form.action} ${instil.nameOf(button)}` : "";
    if (event.detail > 1 && name && name !== clicked) { event.preventDefault(); event.stopPropagation(); return; }
    clicked = name;
  }, true);
})();

/* What a link, a button or a field is called, to find it again in an answer. */
instil.nameOf = (element) => [element.tagName, element.id, element.name, element.getAttribute("href"), element.getAttribute("aria-label") || (element.tagName === "BUTTON" ? element.textContent.trim() : "")].join(" ");

/* ---- replacing ---- */

const controls = "a, button, input, select, textarea, summary, [tabindex]";

/* Returns the element of the answer that is the focused one of the page. Never another one: Enter would press it. */
const counterpart = (old, next, focused) => {
  const name = instil.nameOf(focused), same = (root) => [...root.querySelectorAll(controls)].filter((element) => instil.nameOf(element) === name);
  return same(next)[same(old).indexOf(focused)];
};

/* Curves are drawn here, so an answer has their frames alone. Returns an element as an answer has it. */
const outline = (element) => {
  if (!element.querySelector("[data-chart]")) return element;
  const copy = element.cloneNode(true), caption = (figure) => [...figure.children].filter((child) => child.tagName === "FIGCAPTION").map((child) => child.textContent);
  copy.querySelectorAll("[data-chart]").forEach((figure) => { figure.replaceChildren(...caption(figure)); delete figure.dataset.drawn; });
  return copy;
};

/* Puts the drawn curves of an element into its successor: they keep their zoom, and are not empty for a moment. */
const keepCurves = (old, next) => {
  next.querySelectorAll("[data-chart][id]").forEach((frame) => {
    const drawn = old.querySelector(`#${CSS.escape(frame.id)}`);
    if (drawn && drawn.dataset.chart === frame.dataset.chart) frame.replaceWith(drawn);
  });
};

/* Puts the forms and links of an element into its successor where they are equal: the pointer and the focus stay on what they are on. */
const keepControls = (old, next) => {
  const left = [...old.querySelectorAll("form, a")];
  next.querySelectorAll("form, a").forEach((control) => {
    if (!next.contains(control)) return;  // it was within one that has been kept
    const at = left.findIndex((one) => old.contains(one) && one.isEqualNode(control));
    if (at >= 0) control.replaceWith(...left.splice(at, 1));
  });
};

/* Replaces elements by those of an answer; keeps the focus where it was. Returns whether the first one was found.

   `isRefresh`: nobody asked for it. What is equal stays as it is, and so does what is being typed. */
instil.replace = (answer, selectors, { isRefresh = false } = {}) => {
  const fresh = new DOMParser().parseFromString(answer, "text/html");
  return selectors.map((selector) => {
    const old = document.querySelector(selector), next = fresh.querySelector(selector);
    if (!old || !next) return false;
    old.classList.remove("busy");
    if (!old.className) old.removeAttribute("class");
    if (isRefresh && outline(old).isEqualNode(outline(next))) { old.dispatchEvent(new CustomEvent("swapped", { bubbles: true })); return true; }
    const focused = old.contains(document.activeElement) ? document.activeElement : null;
    let again = focused && (focused === old ? next : counterpart(old, next, focused));
    const typed = isRefresh && focused && "defaultValue" in focused && focused.value !== focused.defaultValue ? focused.value : null;
    const caret = typed !== null && focused.selectionStart !== null ? [focused.selectionStart, focused.selectionEnd] : null;
    const open = new Set([...old.querySelectorAll("details[open][id]")].map((details) => details.id));
    keepCurves(old, next);
    if (isRefresh) keepControls(old, next);
    if (focused && next.contains(focused)) again = focused;
    old.replaceWith(next);
    open.forEach((id) => { const details = document.getElementById(id); if (details) details.open = true; });
    if (again && typed !== null) again.value = typed;
    const place = again || (next.contains(focused) && focused) || next;
    if (focused && place === next && !next.hasAttribute("tabindex")) next.tabIndex = -1;
    if (focused) place.focus({ preventScroll: true });
    if (again && caret) again.setSelectionRange(...caret);
    next.dispatchEvent(new CustomEvent("swapped", { bubbles: true }));
    return true;
  })[0];
};

/* Fetches an address for a target. A later one replaces an earlier one, with two exceptions. Forms are sent one after the
   other. A refresh waits for the one on its way: were it ended, events that come faster than answers would leave the page as it was. */
instil.fetchInto = async (address, selectors, options = {}, { isRefresh = false } = {}) => {
  const key = selectors[0], isWrite = options.method === "post", what = `${address} ${options.body}`;
  if (!document.querySelector(key)) return;
  const before = instil.pending.get(key);
  if (before?.isWrite && isWrite && before.what === what) return;
  if (before && !isWrite && (before.isWrite || (isRefresh && before.what === what))) { before.following = () => instil.fetchInto(address, selectors, options, { isRefresh }); return; }
  if (before?.isWrite) await before.ended;
  else before?.stop.abort();
  const own = { isWrite, what, stop: new AbortController(), following: null };
  own.ended = new Promise((resolve) => { own.end = resolve; });
  instil.pending.set(key, own);
  const target = document.querySelector(key);
  if (!isRefresh) target?.classList.add("busy");
  try {
    const answer = await fetch(address, { ...options, signal: own.stop.signal });
    const text = await answer.text();
    await instil.released();
    if (own.stop.signal.aborted) return;
    if (answer.ok && instil.replace(text, selectors, { isRefresh })) return;
    if (!instil.replace(text, ["main"])) location.assign(isWrite ? location.href : address);
  } catch (error) {
    if (error.name !== "AbortError") instil.announce(document.getElementById("announcement").dataset.failed);
  } finally {
    target?.classList.remove("busy");
    if (instil.pending.get(key) === own) instil.pending.delete(key);
    own.end();
    own.following?.();
  }
};

/* ---- forms, links, events ---- */

const sent = new WeakSet();

document.addEventListener("submit", (event) => {
  const form = event.target, selectors = form.dataset.swap?.split(/\s+/);
  if (event.defaultPrevented) return;
  if (!selectors) {
    if (form.method !== "post") return;
    if (sent.has(form)) event.preventDefault();  // the page that answers it is on its way
    sent.add(form);
    window.addEventListener("pageshow", () => sent.delete(form), { once: true });
    return;
  }
  event.preventDefault();
  const fields = new FormData(form, event.submitter), address = new URL(event.submitter?.getAttribute("formaction") || form.getAttribute("action") || "", location.href);
  if (form.method !== "post") { address.search = new URLSearchParams(fields); instil.fetchInto(address, selectors); return; }
  const body = form.enctype === "multipart/form-data" ? fields : new URLSearchParams(fields);
  instil.fetchInto(address, selectors, { method: "post", body });
});

document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[data-swap]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  event.preventDefault();
  instil.fetchInto(link.href, link.dataset.swap.split(/\s+/)).then(() => { if ("push" in link.dataset) history.pushState(null, "", link.href); });
});
window.addEventListener("popstate", () => location.reload());

/* A form with data-live is sent while it is filled in. */
document.addEventListener("input", (event) => {
  const form = event.target.closest?.("form[data-live]");
  if (!form) return;
  clearTimeout(form.liveTimer);
  form.liveTimer = setTimeout(() => form.requestSubmit(), 250);
});

document.addEventListener("refresh", (event) => {
  const element = event.target;
  if (element.dataset.src && element.id) instil.fetchInto(element.dataset.src, [`#${CSS.escape(element.id)}`], {}, { isRefresh: true });
});
