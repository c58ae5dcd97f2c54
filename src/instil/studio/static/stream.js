/* Listens to server-sent events.

   <div data-stream="/events">      opens the stream; one a page is enough
   <div data-on="jobs runs" …>      gets the event "refresh" when one of these events comes (swap.js and chart.js answer it)
   <pre data-append="log">          the event's data, a text, are appended; it scrolls if it stood at its end

   A browser opens six connections to one server. So a page that nobody sees closes its stream, and all pages of a browser
   share a few places: where more of them are seen than there are places, they take turns. Whoever gets its stream
   refreshes everything, also the first time: something may have changed between the page and its stream. */
"use strict";

(() => {
  const PLACES = 3, TURN = 3000, AGAIN = 3000, LOST = 4000;
  let source = null, last = "", lost = null, wanted = null;

  const named = (attribute, name) => [...document.querySelectorAll(`[${attribute}]`)].filter((element) => element.getAttribute(attribute).split(/\s+/).includes(name));
  const refresh = (elements) => elements.forEach((element) => element.dispatchEvent(new CustomEvent("refresh", { bubbles: true })));

  const receive = (event) => {
    last = event.lastEventId || last;
    refresh(named("data-on", event.type));
    named("data-append", event.type).forEach((element) => {
      const stands = element.scrollHeight - element.scrollTop - element.clientHeight < 40;
      element.append(JSON.parse(event.data));
      if (stands) element.scrollTop = element.scrollHeight;
    });
  };

  const connect = () => {
    const address = new URL(document.querySelector("body [data-stream]").dataset.stream, location.href);
    if (last && address.searchParams.has("start")) address.searchParams.set("start", last);
    const own = source = new EventSource(address);
    const names = new Set([...document.querySelectorAll("[data-on], [data-append]")].flatMap((element) => [element.dataset.on, element.dataset.append]).filter(Boolean).flatMap((text) => text.split(/\s+/)));
    names.forEach((name) => own.addEventListener(name, receive));
    own.addEventListener("open", () => {
      clearTimeout(lost);
      document.documentElement.dataset.stream = "open";
      refresh(document.querySelectorAll("[data-on]"));
    });
    own.addEventListener("error", () => {
      clearTimeout(lost);
      lost = setTimeout(() => window.instil.announce(document.getElementById("announcement").dataset.lost), LOST);
      // The browser tries again on its own, unless it was refused.
      if (own.readyState === EventSource.CLOSED) setTimeout(() => { if (source === own) connect(); }, AGAIN);
    });
  };

  const disconnect = () => {
    source?.close();
    source = null;
    clearTimeout(lost);
    document.documentElement.dataset.stream = "closed";
  };

  /* Resolves when another page waits for this place, or the page does not want its stream any more. */
  const turn = (place, signal) => new Promise((resolve) => {
    const end = () => { clearInterval(timer); resolve(); };
    const timer = setInterval(async () => { if ((await navigator.locks.query()).pending.some((lock) => lock.name === place)) end(); }, TURN);
    signal.addEventListener("abort", end);
  });

  /* The place that the fewest pages hold or wait for. */
  const freePlace = async () => {
    const { held, pending } = await navigator.locks.query(), taken = [...held, ...pending].map((lock) => lock.name);
    const count = (place) => taken.filter((name) => name === place).length;
    return [...Array(PLACES).keys()].map((number) => `instil-stream-${number}`).sort((one, two) => count(one) - count(two))[0];
  };

  const begin = async () => {
    if (wanted || document.hidden || !document.querySelector("body [data-stream]")) return;
    const { signal } = wanted = new AbortController();
    if (!navigator.locks) { connect(); return; }  // an address without https that is not this machine
    while (!signal.aborted) {
      const place = await freePlace();
      await navigator.locks.request(place, { signal }, () => {
        if (signal.aborted) return null;
        connect();
        return turn(place, signal).finally(() => { if (!signal.aborted) disconnect(); });
      }).catch((error) => { if (error.name !== "AbortError") throw error; });
    }
  };

  const end = () => { wanted?.abort(); wanted = null; disconnect(); };

  document.addEventListener("visibilitychange", () => (document.hidden ? end() : begin()));
  window.addEventListener("pagehide", end);
  window.addEventListener("pageshow", begin);
  document.addEventListener("DOMContentLoaded", () => {
    document.querySelectorAll("[data-append]").forEach((element) => { element.scrollTop = element.scrollHeight; });
    begin();
  });
})();
