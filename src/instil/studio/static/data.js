/* The pages for data: a dropped file on its way to the disk, the choices above the rows, rows as tokens, keys.

   The server shows rows as they are in the file at once. Here the helper process is asked for them as tokens, a few at a
   time. What is chosen stands in the address, so a reload shows the same. */
"use strict";

(() => {
  const TOKENS_AT_ONCE = 600, ROWS_AT_ONCE = 10;
  const find = (id) => document.getElementById(id);

  /* ---- a dropped file ---- */

  const drop = () => {
    const place = find("drop");
    if (!place || place.isReady) return;
    place.isReady = true;
    const words = JSON.parse(place.dataset.words), state = find("upload-state"), bar = find("upload-bar"), stop = find("upload-stop");
    const say = (text, isProblem = false) => { state.textContent = text; state.className = isProblem ? "problem" : ""; };
    const size = (bytes) => { const unit = bytes < 1e6 ? ["KB", 1e3] : bytes < 1e9 ? ["MB", 1e6] : ["GB", 1e9]; return `${(bytes / unit[1]).toFixed(1)} ${unit[0]}`; };
    const send = (file) => {
      if (!file) return;
      if (file.size > Number(place.dataset.most)) { say(worded(words.too_large, { size: size(file.size), most: size(Number(place.dataset.most)) }), true); return; }
      const request = new XMLHttpRequest();
      const end = () => { bar.hidden = stop.hidden = true; };
      request.open("POST", `${place.dataset.upload}?${new URLSearchParams({ name: file.name })}`);
      request.setRequestHeader("Content-Type", "application/octet-stream");
      request.upload.addEventListener("progress", (event) => { bar.value = event.total ? event.loaded / event.total : 0; say(worded(words.sending, { sent: size(event.loaded), size: size(event.total) })); });
      request.addEventListener("load", () => {
        end();
        let answer = {};
        try { answer = JSON.parse(request.responseText); } catch { /* the server's own page of an error */ }
        if (answer.address) location.assign(answer.address);
        else say(answer.problem || find("announcement").dataset.failed, true);
      });
      request.addEventListener("error", () => { end(); say(find("announcement").dataset.failed, true); });
      request.addEventListener("abort", () => { end(); say(words.stopped); });
      bar.value = 0; bar.hidden = stop.hidden = false;
      stop.onclick = () => request.abort();
      request.send(file);
    };
    find("file").addEventListener("change", (event) => send(event.target.files[0]));
    for (const kind of ["dragenter", "dragover"]) place.addEventListener(kind, (event) => { event.preventDefault(); place.classList.add("over"); });
    place.addEventListener("dragleave", () => place.classList.remove("over"));
    place.addEventListener("drop", (event) => { event.preventDefault(); place.classList.remove("over"); send(event.dataTransfer.files[0]); });
    // A file that misses the frame must not replace the page.
    for (const kind of ["dragover", "drop"]) window.addEventListener(kind, (event) => event.preventDefault());
  };

  /* ---- rows ---- */

  let run = null, card = null;

  class Rows {
    constructor(section) {
      this.section = section; this.stop = new AbortController();
      this.list = find("row-list");
      this.words = JSON.parse(section.dataset.words); this.tokenWords = JSON.parse(section.dataset.tokenWords); this.kinds = JSON.parse(section.dataset.kinds);
      this.waiting = [...this.list.querySelectorAll(".data-row")];
      this.current = null;
      if (section.dataset.scan) this.scan();
      else this.colour();
    }

    get rows() { return [...this.list.querySelectorAll(".data-row")]; }

    problem(text) { const place = find("rows-problem"); place.textContent = text; place.hidden = false; }

    // Asks for the waiting rows, a few at a time, until none waits.
    async colour() {
      if (this.asks) return;
      this.asks = true;
      try {
        while (this.waiting.length) {
          const part = this.waiting.splice(0, ROWS_AT_ONCE), address = new URL(this.section.dataset.rows, location.href);
          part.forEach((row) => (row.dataset.at ? address.searchParams.append("at", row.dataset.at) : address.searchParams.append("place", row.dataset.place)));
          const found = await (await fetch(address, { signal: this.stop.signal })).json();
          if (found.error) {
            this.problem(found.error);
            [...part, ...this.waiting].forEach((row) => { if (!row.querySelector(".raw")?.textContent) row.remove(); }); // nothing to show of them
            this.waiting = [];
            this.count();
            return;
          }
          this.take(part, found);
        }
        if (!this.rows.length && !this.section.dataset.scan) this.problem(this.words.nothing_here);
      } catch (error) {
        if (error.name !== "AbortError") window.instil.announce(find("announcement").dataset.failed);
      } finally { this.asks = false; }
      this.section.dataset.coloured = String(this.rows.filter((row) => row.row).length);
    }

    // Fewer rows were there than the page was made for, so it is the last one.
    count() {
      const { rows } = this, first = Number(rows[0]?.dataset.at) + 1;
      find("rows-next").hidden = true;
      if (!this.section.dataset.scan) find("rows-count").textContent = rows[0]?.dataset.at ? worded(this.words.from_to, { first, last: first + rows.length - 1 }) : "";
    }

    take(part, found) {
      part.forEach((element) => {
        const row = found.rows.find((one) => (element.dataset.at ? String(one.at) === element.dataset.at : one.place === element.dataset.place));
        if (!row) { element.remove(); this.count(); return; } // behind the last row
        element.row = row; element.part = 0; element.most = TOKENS_AT_ONCE; element.found = found;
        this.draw(element);
      });
    }

    draw(element) {
      const { row, found } = element, head = element.querySelector("header"), pane = element.querySelector(".tokens");
      head.querySelector("h3").textContent = row.place;
      const raw = pane.querySelector(".raw");
      if (raw && raw.textContent && row.examples.length && !element.querySelector("details.source")) {
        const details = make("details", "source");
        details.append(make("summary", "", this.words.raw), make("pre", "text box", raw.textContent));
        pane.after(details);
      }
      pane.replaceChildren();
      const view = new ExampleView(pane, { pieces: found.pieces, fields: found.fields, card, words: this.tokenWords, most: element.most });
      const parts = ExampleView.partsOf(row);
      head.querySelector(".counts")?.remove(); head.querySelector(".parts")?.remove();
      element.querySelector(".found")?.remove(); element.querySelector(".rest")?.remove();
      const list = make("ul", "found");
      for (const [index, seen] of row.findings) {
        const kind = this.kinds[found.kinds[index]], item = make("li", kind.severity);
        // The columns are listed once, beside the format.
        const words = found.kinds[index] === "unknown_format" ? seen.split(/\.\s/)[0] : seen, end = /[.!?]$/.test(words) ? "" : ".";
        item.append(make("b", "", `${this.words[`severity_${kind.severity}`]}, ${kind.title}`), make("span", "", `: ${words}${end}${kind.reasoned ? "" : ` ${worded(this.words.remedy, { remedy: kind.remedy })}`}`));
        list.append(item);
      }
      if (row.findings.length) head.after(list);
      if (!parts.length) { head.append(make("span", "soft counts", this.tokenWords.no_example)); if (raw && raw.textContent) pane.append(raw); return; }
      const { counts, left } = view.draw(parts[element.part]);
      head.append(make("span", "soft counts", counts));
      if (parts.length > 1) {
        const buttons = make("span", "parts");
        parts.forEach((part, index) => {
          const button = make("button", "", view.partName(part, index, parts.length));
          button.type = "button"; button.setAttribute("aria-pressed", String(index === element.part));
          button.addEventListener("click", () => { element.part = index; element.most = TOKENS_AT_ONCE; this.draw(element); element.querySelectorAll(".parts button")[index].focus(); });
          buttons.append(button);
        });
        head.append(buttons);
      }
      if (left > 0) {
        const more = make("button", "rest", view.restWords(left, TOKENS_AT_ONCE * 4));
        more.type = "button";
        more.addEventListener("click", () => { element.most += TOKENS_AT_ONCE * 4; this.draw(element); });
        pane.after(more);
      }
    }

    /* Rows that a filter finds, as they are found. */
    async scan() {
      const state = find("scan-state"), stop = find("scan-stop"), ending = new AbortController();
      this.stop.signal.addEventListener("abort", () => ending.abort());
      stop.addEventListener("click", () => ending.abort());
      let seen = 0, hits = 0;
      const say = () => { state.textContent = worded(this.words.seen_rows, { seen, hits }); };
      try {
        const answer = await fetch(this.section.dataset.scan, { signal: ending.signal }), reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
        for (let text = ""; ;) {
          const { done, value } = await reader.read();
          if (done) break;
          const lines = (text + value).split("\n");
          text = lines.pop();
          for (const line of lines.map((each) => JSON.parse(each))) {
            if ("error" in line) { this.problem(line.error); state.textContent = ""; }
            if ("seen" in line) { seen = line.seen; say(); }
            if ("at" in line) { hits += 1; this.add(line); say(); }
            if ("more" in line) { const next = find("rows-next"); next.href = this.section.dataset.next + String(line.more + 1); next.hidden = false; }
            if ("more" in line || "end" in line) state.textContent = hits ? worded(this.words.found_rows, { hits }) : this.words.nothing_found;
          }
        }
      } catch (error) {
        if (error.name !== "AbortError") this.problem(find("announcement").dataset.failed);
        else if (!this.stop.signal.aborted) state.textContent = `${this.words.stopped} ${worded(this.words.seen_rows, { seen, hits })}`;
      }
      stop.hidden = true;
      this.section.dataset.scanned = String(hits);
    }

    add({ at, place }) {
      const element = make("article", "data-row");
      element.id = `row-${at}`; element.dataset.at = String(at); element.dataset.place = place; element.tabIndex = -1;
      const head = make("header"), pane = make("div", "tokens", this.words.reading);
      pane.setAttribute("role", "group"); pane.setAttribute("aria-label", place);
      head.append(make("h3", "path", place), make("span", "soft number", worded(this.words.row, { number: at + 1 })));
      element.append(head, pane);
      this.list.append(element);
      this.waiting.push(element);
      this.colour();
    }

    /* ---- keys ---- */

    go(index) {
      const { rows } = this, element = rows[Math.min(Math.max(index, 0), rows.length - 1)];
      if (!element) return;
      this.current?.classList.remove("current");
      this.current = element;
      element.classList.add("current");
      element.focus({ preventScroll: true });
      element.scrollIntoView({ block: "start" });
    }

    step(by) {
      const { rows } = this, at = rows.indexOf(this.current);
      this.go(at < 0 ? (by > 0 ? 0 : rows.length - 1) : at + by);
    }

    get view() {
      const row = this.current && this.list.contains(this.current) ? this.current : this.rows[0];
      return row?.querySelector(".tokens")?.view;
    }

    nextPart() {
      const row = this.current || this.rows[0];
      if (!row?.row) return;
      const count = ExampleView.partsOf(row.row).length;
      if (count < 2) return;
      row.part = (row.part + 1) % count; row.most = TOKENS_AT_ONCE;
      this.draw(row);
    }
  }

  const KEYS = {
    j: () => run.step(1), ArrowRight: () => run.step(1), k: () => run.step(-1), ArrowLeft: () => run.step(-1),
    Home: () => run.go(0), End: () => run.go(Infinity), n: () => { const next = find("rows-next"); if (!next.hidden) next.click(); }, p: () => find("rows-previous")?.click(),
    f: () => find("by-finding").focus(), "/": () => find("by-text").select(), g: () => find("start").select(),
    e: () => run.nextPart(), t: () => run.view?.nextTrained(-1), Enter: () => run.view?.focus(0), "?": () => find("help").showModal(),
  };

  const key = (event) => {
    if (!run || event.ctrlKey || event.metaKey || event.altKey || find("help").open) return;
    const here = event.target;
    if (/^(INPUT|SELECT|TEXTAREA)$/.test(here.tagName)) { if (event.key === "Escape") here.blur(); return; }
    if (/^(BUTTON|A|SUMMARY)$/.test(here.tagName) && event.key === "Enter") return;
    const token = here.closest?.("#row-list .token");
    if (!token && here.closest?.("pre, .box")) return; // they scroll
    let act = KEYS[event.key];
    if (token) {
      const row = token.closest(".data-row");
      run.current = row;
      act = token.closest(".tokens").view.keys(token)[event.key] || act;
      if (event.key === "Escape") act = () => run.go(run.rows.indexOf(row));
    }
    if (!act) return;
    event.preventDefault();
    act();
  };

  /* ---- what is chosen ---- */

  const ROLES = ["system", "user", "assistant"];

  // The address of what the form says; roles whose fields are not there yet stay as they are.
  const address = ({ from = true } = {}) => {
    const fields = new FormData(find("look")), before = new URLSearchParams(location.search), query = new URLSearchParams();
    ROLES.forEach((role) => { if (!fields.has(role) && before.get(role)) fields.set(role, before.get(role)); });
    const usual = { model: "demo", objective: "sft", start: "1" };
    for (const [name, value] of fields) if (value && value !== usual[name] && (from || name !== "start")) query.set(name, value);
    return `/data/view?${query}`;
  };

  let timer = null;
  const changed = (part) => {
    clearTimeout(timer);
    timer = setTimeout(async () => {
      if (part !== "start" && find("start")) find("start").value = "";
      const next = address();
      history.replaceState(null, "", next);
      const parts = { model: ["#rows", "#report", "#filter", "#model-problem"], mapping: ["#rows", "#report", "#model-problem"] }[part] || ["#rows"];
      run?.stop.abort();
      await window.instil.fetchInto(next, parts);
      if (part === "model") fetchSummary(["#summary"]);
      if (part === "mapping") fetchSummary(["#onward", "#format", "#template-facts"]);
    }, 300);
  };

  const fetchSummary = (parts) => {
    const query = address({ from: false }).split("?")[1];
    return window.instil.fetchInto(`/data/summary?${query}`, parts);
  };

  const column = (select) => {
    const pattern = find(`pattern-${select.dataset.column}`);
    pattern.hidden = select.value !== "*";
    if (select.value === "*") { pattern.focus(); return; }
    pattern.value = select.value;
    changed("mapping");
  };

  document.addEventListener("input", (event) => {
    if (event.target.dataset?.column) column(event.target);
    else if (event.target.dataset?.part && find("look")) changed(event.target.dataset.part);
  });
  document.addEventListener("submit", (event) => {
    if (event.target.id !== "look") return;
    event.preventDefault();
    changed(document.activeElement?.dataset.part || "model");
  });

  const start = () => {
    drop();
    const section = find("rows");
    if (!section) return;
    run?.stop.abort();
    card ||= new TokenCard(find("card"), JSON.parse(section.dataset.tokenWords));
    card.hide();
    run = new Rows(section);
  };

  document.addEventListener("swapped", (event) => {
    if (event.target.id === "rows" || event.target.tagName === "MAIN") start();
    // The inspection has ended: its findings can be chosen now.
    if (event.target.id === "report" && event.target.querySelector(".findings") && find("by-finding")?.options.length === 1) window.instil.fetchInto(address(), ["#filter"]);
  });
  document.addEventListener("keydown", key);
  document.addEventListener("click", (event) => {
    if (event.target.id === "keys") find("help").showModal();
    if (event.target.id === "close-help") find("help").close();
  });
  document.addEventListener("DOMContentLoaded", () => {
    start();
    const summary = document.querySelector("#summary[data-fetch]");
    if (summary) window.instil.fetchInto(summary.dataset.fetch, ["#summary"]);
  });
})();
