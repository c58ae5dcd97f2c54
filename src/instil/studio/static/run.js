/* The pages of runs.

   <section id data-src data-again>     is fetched again at once: only a part of the files was read
   <span data-append="job" hidden>      gets the number of another job that writes the run now: the page starts over
   <form data-keep="#table">            its checkboxes stay chosen when the table is replaced, and over a reload */
"use strict";

(() => {
  const again = (root) => root.querySelectorAll("[data-again]").forEach((element) => setTimeout(() => element.dispatchEvent(new CustomEvent("refresh", { bubbles: true })), 60));

  const startOver = (place) => new MutationObserver(async () => {
    await window.instil.released();
    const isDirty = [...document.querySelectorAll("#notes input, #notes textarea")].some((field) => field.value !== field.defaultValue);
    if (!isDirty) { location.reload(); return; }
    const log = document.getElementById("log");
    if (log) log.textContent = "";
  }).observe(place, { childList: true });

  const key = `instil-chosen ${location.pathname}`;
  const chosen = new Set(JSON.parse(sessionStorage.getItem(key) || "[]"));
  const form = () => document.querySelector("form[data-keep]");
  const boxes = () => [...(form()?.querySelectorAll("input[type=checkbox][name]") || [])];

  const showCount = () => {
    const all = boxes(), known = new Set(all.map((box) => box.value)), number = [...chosen].filter((value) => known.has(value)).length;
    const count = document.getElementById("chosen-count"), button = document.getElementById("compare-chosen");
    if (count) count.textContent = count.dataset.words.replace("#", number);
    if (button) button.disabled = number < 2 || number > Number(button.dataset.most);
  };
  const restore = () => {
    if (!form()) return;
    boxes().forEach((box) => { box.checked = chosen.has(box.value); });
    showCount();
  };

  document.addEventListener("change", (event) => {
    const box = event.target;
    if (box.type !== "checkbox" || !box.closest("form[data-keep]") || !box.name) return;
    if (box.checked) chosen.add(box.value); else chosen.delete(box.value);
    sessionStorage.setItem(key, JSON.stringify([...chosen]));
    showCount();
  });

  document.addEventListener("DOMContentLoaded", () => {
    again(document); restore();
    document.querySelectorAll("[data-append=job]").forEach(startOver);
  });
  document.addEventListener("swapped", (event) => { again(event.target.parentNode || document); restore(); });
})();
