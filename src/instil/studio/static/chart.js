/* Draws lines as SVG: <figure data-chart="/runs/run/curve?run=…"> (the macro `chart` writes it).

   The address answers JSON: { x, y, series: [{ name, kind: "line" | "faint" | "points", points: [[x, y], …] }] }.
   With "more": true only a part of the file was read: the chart asks again at once. A zoom asks again with &start=…&end=…, so the server sends the points of that part, down-sampled for it. */
"use strict";

(() => {
  const WIDE = 900, HEIGHT = 320, LEFT = 64, RIGHT = 12, TOP = 10, BOTTOM = 38, COLOURS = 8;
  const svg = (name, attributes = {}, text = "") => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    Object.entries(attributes).forEach(([key, value]) => element.setAttribute(key, value));
    element.textContent = text;
    return element;
  };
  const html = (name, attributes = {}, ...children) => {
    const element = document.createElement(name);
    Object.entries(attributes).forEach(([key, value]) => element.setAttribute(key, value));
    element.append(...children);
    return element;
  };
  const short = (value) => {
    const size = Math.abs(value);
    if (size >= 1e6 || (size > 0 && size < 1e-3)) return value.toExponential(1);
    return String(Number(value.toPrecision(4)));
  };
  const steps = (from, to, most) => {
    const raw = (to - from) / most, power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= raw);
    const found = [];
    for (let value = Math.ceil(from / step) * step; value <= to + step * 1e-9; value += step) found.push(Number(value.toPrecision(12)));
    return found;
  };
  const powers = (from, to) => {
    const found = [];
    for (let power = Math.floor(Math.log10(from)); power <= Math.ceil(Math.log10(to)); power += 1) [1, 2, 5].forEach((factor) => { const value = factor * 10 ** power; if (value >= from && value <= to) found.push(value); });
    return found.length > 9 ? found.filter((value) => Number.isInteger(Math.log10(value))) : found;
  };

  class Chart {
    constructor(figure) {
      this.figure = figure; this.words = figure.dataset; this.hidden = new Set(); this.log = false; this.range = null; this.at = null;
      this.controls = html("div", { class: "controls" });
      this.picture = svg("svg", { role: "img", tabindex: "0", "aria-label": figure.getAttribute("aria-label") });
      this.output = html("output", { "aria-live": "off" });
      this.table = html("details", {}, html("summary", {}, this.words.wordsTable));
      figure.append(this.controls, this.picture, this.output, this.table);
      figure.addEventListener("refresh", (event) => { event.stopPropagation(); this.load(); });
      this.table.addEventListener("toggle", () => this.fillTable());
      this.picture.addEventListener("pointerdown", (event) => this.begin(event));
      this.picture.addEventListener("pointermove", (event) => this.move(event));
      this.picture.addEventListener("pointerup", (event) => this.end(event));
      this.picture.addEventListener("pointerleave", () => { if (this.from === undefined) this.point(null); });
      this.picture.addEventListener("dblclick", () => this.zoom(null));
      this.picture.addEventListener("keydown", (event) => this.key(event));
      new ResizeObserver(() => this.draw()).observe(figure);
      this.load();
    }

    /* Asks for the points. What comes while an answer is on its way is asked once more after it: events may come faster than answers. */
    async load() {
      if (this.asks) { this.asksAgain = true; return; }
      this.asks = true;
      await this.ask();
      this.asks = false;
      if (this.asksAgain) { this.asksAgain = false; this.load(); }
    }

    async ask() {
      const address = new URL(this.figure.dataset.chart, location.href), range = this.range;
      if (range) { address.searchParams.set("start", range[0]); address.searchParams.set("end", range[1]); }
      try {
        const answer = await fetch(address);
        if (!answer.ok) return;
        const data = await answer.json();
        await window.instil.released();  // a pressed button would get no click, and a drag would lose its band
        if (range !== this.range) return;  // another part is wanted by now
        this.data = data;
        this.drawControls(); this.draw(); this.fillTable();
        if (this.data.more) setTimeout(() => this.load(), 30);
        this.figure.dataset.drawn = String((Number(this.figure.dataset.drawn) || 0) + 1);
      } catch { /* the stream says that the studio does not answer */ }
    }

    get shown() { return this.data.series.filter((line) => !this.hidden.has(line.name)).map((line) => ({ ...line, points: line.points.filter((point) => !this.log || point[1] > 0) })).filter((line) => line.points.length); }

    drawControls() {
      const focused = this.controls.contains(document.activeElement) ? document.activeElement.dataset.what : null;
      const button = (what, pressed, kind, act, ...children) => {
        const made = html("button", { type: "button", "aria-pressed": String(pressed), class: kind, "data-what": what }, ...children);
        made.addEventListener("click", () => { act(); this.drawControls(); this.draw(); });
        return made;
      };
      const legend = this.data.series.map((line, number) => button(`line ${line.name}`, !this.hidden.has(line.name), "line", () => { if (!this.hidden.delete(line.name)) this.hidden.add(line.name); }, html("span", { class: `swatch c${number % COLOURS}` }), line.name));
      const log = button("log", this.log, "plain", () => { this.log = !this.log; }, this.words.wordsLog);
      this.controls.replaceChildren(...legend, log);
      if (this.range) this.controls.append(button("whole", false, "plain", () => this.zoom(null), this.words.wordsWhole));
      if (focused) [...this.controls.children].find((child) => child.dataset.what === focused)?.focus();
    }

    draw() {
      if (!this.data) return;
      this.wide = Math.max(320, Math.min(WIDE * 1.4, this.figure.clientWidth || WIDE));
      this.picture.replaceChildren();
      this.picture.setAttribute("viewBox", `0 0 ${this.wide} ${HEIGHT}`);
      const lines = this.shown, all = lines.flatMap((line) => line.points);
      this.output.textContent = all.length ? this.words.wordsHelp : this.words.wordsEmpty;
      if (!all.length) return;
      const extent = (index) => all.reduce(([low, high], point) => [Math.min(low, point[index]), Math.max(high, point[index])], [Infinity, -Infinity]);
      let [x0, x1] = extent(0), [y0, y1] = extent(1);
      if (x0 === x1) x1 = x0 + 1;
      if (this.log) [y0, y1] = [y0 / 1.1, y1 * 1.1];
      else { const margin = (y1 - y0) * 0.05 || Math.abs(y1) * 0.05 || 1; [y0, y1] = [y0 - margin, y1 + margin]; }
      const scale = this.log ? Math.log10 : (value) => value;
      this.x = (value) => LEFT + ((value - x0) / (x1 - x0)) * (this.wide - LEFT - RIGHT);
      this.y = (value) => HEIGHT - BOTTOM - ((scale(value) - scale(y0)) / (scale(y1) - scale(y0))) * (HEIGHT - TOP - BOTTOM);
      this.value = (pixel) => x0 + ((pixel - LEFT) / (this.wide - LEFT - RIGHT)) * (x1 - x0);
      (this.log ? powers(y0, y1) : steps(y0, y1, 7)).forEach((value) => {
        this.picture.append(svg("line", { class: "grid", x1: LEFT, x2: this.wide - RIGHT, y1: this.y(value), y2: this.y(value) }), svg("text", { x: LEFT - 6, y: this.y(value) + 4, "text-anchor": "end" }, short(value)));
      });
      steps(x0, x1, this.wide / 130).filter(Number.isInteger).forEach((value) => this.picture.append(svg("text", { x: this.x(value), y: HEIGHT - BOTTOM + 16, "text-anchor": "middle" }, short(value))));
      this.picture.append(svg("text", { x: this.wide - RIGHT, y: HEIGHT - 6, "text-anchor": "end" }, this.data.x), svg("text", { x: 2, y: HEIGHT - 6 }, this.data.y));
      lines.forEach((line) => {
        const colour = `c${this.data.series.findIndex((other) => other.name === line.name) % COLOURS}`;
        const group = svg("g", { class: line.kind });
        if (line.kind !== "points" || line.points.length > 1) group.append(svg("path", { class: colour, fill: "none", d: line.points.map((point, number) => `${number ? "L" : "M"}${this.x(point[0]).toFixed(1)} ${this.y(point[1]).toFixed(1)}`).join("") }));
        if (line.kind === "points") line.points.forEach((point) => group.append(svg("circle", { class: colour, cx: this.x(point[0]).toFixed(1), cy: this.y(point[1]).toFixed(1), r: 3.5 })));
        this.picture.append(group);
      });
      this.cursor = svg("line", { class: "cursor", y1: TOP, y2: HEIGHT - BOTTOM, visibility: "hidden" });
      this.band = svg("rect", { class: "zoom", y: TOP, height: HEIGHT - TOP - BOTTOM, visibility: "hidden" });
      this.picture.append(this.cursor, this.band);
      if (this.at !== null) this.point(this.at);
    }

    pixel(event) { const box = this.picture.getBoundingClientRect(); return Math.max(LEFT, Math.min(this.wide - RIGHT, ((event.clientX - box.left) / box.width) * this.wide)); }

    point(at) {
      this.at = at;
      if (!this.cursor) return;
      this.cursor.setAttribute("visibility", at === null ? "hidden" : "visible");
      if (at === null) { this.output.textContent = this.words.wordsHelp; return; }
      this.cursor.setAttribute("x1", this.x(at)); this.cursor.setAttribute("x2", this.x(at));
      const near = this.shown.map((line) => [line.name, line.points.reduce((best, point) => (Math.abs(point[0] - at) < Math.abs(best[0] - at) ? point : best))]);
      this.output.textContent = `${this.data.x} ${short(at)}: ${near.map(([name, point]) => `${name} ${short(point[1])}${point[0] === at ? "" : ` (${short(point[0])})`}`).join(" · ")}`;
    }

    nearest(value) { return this.shown.flatMap((line) => line.points).reduce((best, point) => (Math.abs(point[0] - value) < Math.abs(best - value) ? point[0] : best), Infinity); }

    begin(event) { if (!this.cursor || event.button) return; this.from = this.pixel(event); this.picture.setPointerCapture(event.pointerId); }

    move(event) {
      if (!this.cursor) return;
      const pixel = this.pixel(event);
      if (this.from === undefined) { this.point(this.nearest(this.value(pixel))); return; }
      this.band.setAttribute("visibility", "visible");
      this.band.setAttribute("x", Math.min(pixel, this.from)); this.band.setAttribute("width", Math.abs(pixel - this.from));
    }

    end(event) {
      if (this.from === undefined) return;
      const [low, high] = [this.from, this.pixel(event)].sort((a, b) => a - b);
      this.from = undefined;
      this.band.setAttribute("visibility", "hidden");
      if (high - low > 8) this.zoom([this.value(low), this.value(high)]);
    }

    zoom(range) { this.range = range; this.at = null; this.load(); }

    key(event) {
      const places = [...new Set(this.shown.flatMap((line) => line.points.map((point) => point[0])))].sort((a, b) => a - b);
      if (event.key === "Escape") { this.zoom(null); return; }
      if (!places.length || !["ArrowLeft", "ArrowRight", "Home", "End"].includes(event.key)) return;
      event.preventDefault();
      const index = places.indexOf(this.at);
      const next = { ArrowLeft: index < 0 ? places.length - 1 : index - 1, ArrowRight: index + 1, Home: 0, End: places.length - 1 }[event.key];
      this.point(places[Math.max(0, Math.min(places.length - 1, next))]);
    }

    fillTable() {
      if (!this.table.open || !this.data) return;
      const before = this.table.querySelector("div"), at = before?.scrollTop || 0;
      before?.remove();
      const rows = new Map();
      this.data.series.forEach((line, column) => line.points.forEach(([x, y]) => { if (!rows.has(x)) rows.set(x, []); rows.get(x)[column] = y; }));
      const head = html("tr", {}, html("th", { class: "number" }, this.data.x), ...this.data.series.map((line) => html("th", { class: "number" }, line.name)));
      const body = [...rows.keys()].sort((a, b) => a - b).map((x) => html("tr", {}, html("td", { class: "number" }, short(x)), ...this.data.series.map((_, column) => html("td", { class: "number" }, rows.get(x)[column] === undefined ? "" : short(rows.get(x)[column])))));
      const box = html("div", { class: "scroll box", tabindex: "0", role: "group", "aria-label": this.words.wordsTable }, html("table", {}, html("thead", {}, head), html("tbody", {}, ...body)));
      this.table.append(box);
      box.scrollTop = at;
    }
  }

  const start = (root) => root.querySelectorAll("[data-chart]").forEach((figure) => { if (!figure.querySelector("svg")) new Chart(figure); });
  document.addEventListener("DOMContentLoaded", () => start(document));
  document.addEventListener("swapped", (event) => start(event.target.parentNode || document));
})();
