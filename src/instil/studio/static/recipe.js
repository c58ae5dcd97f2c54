/* The recipe: what is changed goes to the server, which answers with form, YAML, command and problems; then the plan.

   Only the newest answer counts: what was typed meanwhile is never replaced. */
"use strict";

(() => {
  const PARTS = ["#fields", "#start-state", "#name-problem", "#file-problem", "#plan", "#yaml-state", "#command-problem"];
  let version = 0, kept = 0, timer = null, sending = null, planning = null;

  const form = () => document.getElementById("recipe");
  const parse = (text) => new DOMParser().parseFromString(text, "text/html");

  /* Replaces the parts of the page by those of an answer. Focus, caret and what is folded stay. */
  const take = (fresh, parts) => {
    const focused = document.activeElement, id = focused?.id;
    const caret = focused && "selectionStart" in focused && focused.type !== "checkbox" ? [focused.selectionStart, focused.selectionEnd] : null;
    const folded = new Map([...document.querySelectorAll("#recipe details[id]")].map((details) => [details.id, details.open]));
    parts.forEach((selector) => {
      const old = document.querySelector(selector), next = fresh.querySelector(selector);
      if (old && next) old.replaceWith(next);
    });
    folded.forEach((open, name) => { const details = document.getElementById(name); if (details && !details.querySelector("[aria-invalid]")) details.open = open; });
    if (id && document.activeElement?.id !== id) {
      const again = document.getElementById(id);
      again?.focus({ preventScroll: true });
      if (again && caret && caret[0] !== null && again.setSelectionRange) again.setSelectionRange(...caret);
    }
    ["yaml", "command", "file"].forEach((name) => {
      const here = document.getElementById(name), there = fresh.getElementById(name);
      if (!here || !there) return;
      if (here.value !== there.value) here.value = there.value;
      if (there.getAttribute("aria-invalid")) here.setAttribute("aria-invalid", "true"); else here.removeAttribute("aria-invalid");
      if (there.placeholder !== undefined) here.placeholder = there.placeholder;
    });
  };

  const send = async () => {
    const place = form(), at = version;
    sending?.abort();
    sending = new AbortController();
    try {
      const answer = await fetch(place.getAttribute("action"), { method: "post", body: new URLSearchParams(new FormData(place)), signal: sending.signal });
      const fresh = parse(await answer.text());
      if (at !== version) return;
      if (!fresh.getElementById("recipe")) { document.querySelector("main").replaceWith(fresh.querySelector("main")); return; }
      take(fresh, PARTS);
      kept = at;
      plan();
    } catch (error) {
      if (error.name !== "AbortError") window.instil.announce(place.dataset.failed);
    }
  };

  /* Sends what was typed, also what is typed meanwhile; a server that does not answer is asked three times. */
  const flush = async () => {
    for (let tries = 0; tries < 3 && kept !== version; tries += 1) { clearTimeout(timer); await send(); }
    kept = version;
  };

  const plan = async () => {
    const place = document.getElementById("plan");
    if (!place?.dataset.plan) return;
    const at = version;
    planning?.abort();
    planning = new AbortController();
    document.getElementById("plan-state").textContent = place.dataset.words;
    place.setAttribute("aria-busy", "true");
    try {
      const answer = await fetch(place.dataset.plan, { method: "post", body: new URLSearchParams(), signal: planning.signal });
      const fresh = parse(await answer.text());
      if (at !== version || !fresh.getElementById("plan")) return;
      take(fresh, ["#plan"]);
    } catch (error) {
      if (error.name !== "AbortError") window.instil.announce(form().dataset.failed);
    }
  };

  const changed = (delay) => {
    version += 1;
    planning?.abort();
    const state = document.getElementById("plan-state");
    document.getElementById("plan")?.removeAttribute("data-plan");
    if (state && !document.querySelector("#plan .old")) state.textContent = "";
    clearTimeout(timer);
    timer = setTimeout(send, delay);
  };

  const counts = (target) => target.form?.id === "recipe" && target.name && !["command", "file", "good"].includes(target.name);

  document.addEventListener("input", (event) => {
    if (!counts(event.target) || event.isComposing) return;
    changed(event.target.tagName === "SELECT" ? 0 : event.target.id === "yaml" ? 700 : 450);
  });
  document.addEventListener("change", (event) => { if (counts(event.target) && kept !== version) changed(0); });
  document.addEventListener("compositionend", (event) => { if (counts(event.target)) changed(450); });
  document.addEventListener("click", (event) => {
    const name = event.target.dataset?.clear, input = name && document.getElementById(name);
    if (!input) return;
    input.value = "";
    input.focus();
    changed(0);
  });
  document.addEventListener("submit", (event) => {
    if (!form()) return;
    if (event.target.id !== "recipe") {  // such as the language: what was typed a moment ago goes first
      if (kept === version) return;
      event.preventDefault();
      event.stopImmediatePropagation();
      clearTimeout(timer);
      flush().then(() => event.target.requestSubmit(event.submitter));
      return;
    }
    if (event.submitter && event.submitter.id !== "apply") { clearTimeout(timer); sending?.abort(); planning?.abort(); kept = version; return; }
    event.preventDefault();  // Enter in a field
    changed(0);
  }, true);
  window.addEventListener("pagehide", () => {
    if (form() && kept !== version) fetch(form().getAttribute("action"), { method: "post", keepalive: true, body: new URLSearchParams(new FormData(form())) });
  });
  document.addEventListener("DOMContentLoaded", () => {
    if (!form()) return;
    document.getElementById("apply").hidden = true;
    plan();
  });
})();
