/* Listens to server-sent events.

   <div data-stream="/events">      opens the stream; one a page is enough
   <div data-on="jobs runs" …>      gets the event "refresh" when one of these events comes (swap.js and chart.js answer it)
   <pre data-append="log">          the event's data, a text, are appended; it scrolls if it stood at its end

   A browser opens six connections to one server. So a page that nobody sees closes its stream, and opens it again, with
   a refresh of everything, when it is seen. */
"use strict";

(() => {
  let source = null, place = null, last = "", lost = null;

  const named = (attribute, name) => [...document.querySelectorAll(`[${attribute}]`)].filter((element) => element.getAttribute(attribute).split(/\s+/).includes(name));

  const receive = (event) => {
    last = event.lastEventId || last;
    named("data-on", event.type).forEach((element) => element.dispatchEvent(new CustomEvent("refresh", { bubbles: true })));
    named("data-append", event.type).forEach((element) => {
      const stands = element.scrollHeight - element.scrollTop - element.clientHeight < 40;
      element.append(JSON.parse(event.data));
      if (stands) element.scrollTop = element.scrollHeight;
    });
  };

  const open = () => {
    place = document.querySelector("[data-stream]");
    if (!place || source || document.hidden) return;
    const address = new URL(place.dataset.stream, location.href);
    if (last && address.searchParams.has("start")) address.searchParams.set("start", last);
    source = new EventSource(address);
    const names = new Set([...document.querySelectorAll("[data-on], [data-append]")].flatMap((element) => [element.dataset.on, element.dataset.append]).filter(Boolean).flatMap((text) => text.split(/\s+/)));
    names.forEach((name) => source.addEventListener(name, receive));
    source.addEventListener("open", () => {
      clearTimeout(lost);
      document.documentElement.dataset.stream = "open";
      if (source?.cameBack) document.querySelectorAll("[data-on]").forEach((element) => element.dispatchEvent(new CustomEvent("refresh", { bubbles: true })));
    });
    source.addEventListener("error", () => {
      if (source) source.cameBack = true;
      clearTimeout(lost);
      lost = setTimeout(() => window.instil.announce(document.getElementById("announcement").dataset.lost), 4000);
      if (source?.readyState === EventSource.CLOSED) { close(); setTimeout(() => { open(); if (source) source.cameBack = true; }, 3000); }
    });
  };

  const close = () => { source?.close(); source = null; };

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) { close(); return; }
    open();
    if (source) source.cameBack = true;
  });
  window.addEventListener("pagehide", close);
  window.addEventListener("pageshow", open);
  document.addEventListener("DOMContentLoaded", () => {
    document.querySelectorAll("[data-append]").forEach((element) => { element.scrollTop = element.scrollHeight; });
    open();
  });
})();
