/* Evaluate and ship: the tasks that fit the chosen data are asked for and marked. */
"use strict";

document.addEventListener("change", (event) => {
  const address = event.target.dataset?.suggest;
  if (address && event.target.value) window.instil.fetchInto(`${address}?data=${encodeURIComponent(event.target.value)}`, ["#tasks"]);
});
