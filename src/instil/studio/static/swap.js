/* Fetches a page and puts one element of it in place of the one that is here.

   <form data-swap="#jobs">  <a data-swap="#jobs">   send the form or follow the link, then replace #jobs
   <div id="jobs" data-src="/jobs">                  on its event "refresh": fetch the address, then replace itself

   The answer may be a whole page: the element with the id is taken out of it. So every form and link works without
   this script too. An answer with an error replaces the content of <main>. */
"use strict";

const instil = window.instil = { pending: new WeakMap() };

instil.announce = (text) => { const place = document.getElementById("announcement"); if (place) place.textContent = text; };

/* Replaces elements by those of an answer; keeps the focus where it was. Returns whether the first one was found. */
instil.replace = (answer, selectors) => {
  const fresh = new DOMParser().parseFromString(answer, "text/html");
  return selectors.map((selector) => {
    const old = document.querySelector(selector), next = fresh.querySelector(selector);
    if (!old || !next) return false;
    const focused = old.contains(document.activeElement) ? document.activeElement : null;
    const number = focused && !focused.id ? [...old.querySelectorAll("a, button, input, select, textarea")].indexOf(focused) : -1;
    const open = new Set([...old.querySelectorAll("details[open][id]")].map((details) => details.id));
    old.replaceWith(next);
    open.forEach((id) => { const details = document.getElementById(id); if (details) details.open = true; });
    if (focused) {
      const again = focused.id ? document.getElementById(focused.id) : next.querySelectorAll("a, button, input, select, textarea")[number];
      (again || next).focus({ preventScroll: true });
    }
    next.dispatchEvent(new CustomEvent("swapped", { bubbles: true }));
    return true;
  })[0];
};

/* Fetches an address for a target; a later request for the same target replaces an earlier one. */
instil.fetchInto = async (address, selectors, options = {}) => {
  const target = document.querySelector(selectors[0]);
  if (!target) return;
  instil.pending.get(target)?.abort();
  const stop = new AbortController();
  instil.pending.set(target, stop);
  target.classList.add("busy");
  try {
    const answer = await fetch(address, { ...options, signal: stop.signal });
    const text = await answer.text();
    if (answer.ok && instil.replace(text, selectors)) return;
    if (!instil.replace(text, ["main"])) location.assign(options.method === "post" ? location.href : address);
  } catch (error) {
    if (error.name !== "AbortError") instil.announce(document.getElementById("announcement").dataset.failed);
  } finally { target.classList.remove("busy"); }
};

document.addEventListener("submit", (event) => {
  const form = event.target, selectors = form.dataset.swap?.split(/\s+/);
  if (!selectors) return;
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
  if (element.dataset.src && element.id) instil.fetchInto(element.dataset.src, [`#${CSS.escape(element.id)}`]);
});
