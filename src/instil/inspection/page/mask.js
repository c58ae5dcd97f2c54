// Draws one row at a time from the JSON in #data. Everything from the data goes in as text, never as markup.
const data = JSON.parse(document.getElementById("data").textContent);
const TOKENS_AT_ONCE = 6000;
const state = { filter: "", at: 0, part: 0, shown: TOKENS_AT_ONCE, rows: [] };
const find = (id) => document.getElementById(id);
const card = new TokenCard(find("card"));
const view = new ExampleView(find("tokens"), { ...data, card, most: TOKENS_AT_ONCE });
const { partsOf } = ExampleView;

/* ---- the summary of all data ---- */

function drawSummary() {
  find("title").textContent = data.title;
  find("facts").textContent = data.facts.join(" · ");
  for (const line of data.ledger) drawLedgerLine(line);
  for (const line of data.formats) find("formats").append(make("li", "", line));
  for (const line of data.proof.lines) find("proof").append(make("p", data.proof.passed ? "" : "error", line));
  if (!data.kinds.length) find("findings").append(make("li", "", "Nothing was found."));
  for (const kind of data.kinds) {
    const button = make("button", "");
    button.type = "button";
    button.dataset.kind = kind.name;
    const words = make("span", kind.severity, kind.title);
    words.append(make("small", "", `${kind.severity} · ${kind.remedy}`));
    button.append(words, make("b", "", kind.count.toLocaleString("en")));
    button.addEventListener("click", () => choose(state.filter === kind.name ? "" : kind.name));
    const item = make("li");
    item.append(button);
    find("findings").append(item);
  }
  for (const chart of data.charts) find("histograms").append(drawChart(chart));
  drawLegend();
  addOption("", `all rows (${data.rows.length.toLocaleString("en")})`);
  addOption("*", `rows with a finding (${data.rows.filter((row) => row.findings.length).length.toLocaleString("en")})`);
  for (const kind of data.kinds) {
    const here = data.rows.filter((row) => row.findings.some((each) => data.kinds[each[0]].name === kind.name)).length;
    addOption(kind.name, `${kind.title} (${here.toLocaleString("en")})`);
  }
}

function drawLedgerLine(line) {
  const [, label, rest] = line.match(/^\s*(.*?)\s{2,}(.*)$/) || [null, "", line];
  const item = make("div", line.startsWith(" ") ? "part" : "");
  if (label) item.append(make("dt", "", label));
  item.append(make("dd", "", rest));
  find("ledger").append(item);
}

function drawLegend() {
  const weights = new Set(data.rows.flatMap((row) => row.examples.flatMap((example) => example.runs.map((run) => run[1]))));
  find("some-part").hidden = ![...weights].some((weight) => weight > 0 && weight < 1);
  find("some-more").hidden = ![...weights].some((weight) => weight > 1);
  if (data.rows.some((row) => row.examples.some((example) => example.side)))
    find("trained-means").textContent = "counts in the loss, for the better answer or against the worse one";
}

function addOption(value, text) {
  const option = make("option", "", text);
  option.value = value;
  find("filter").append(option);
}

function drawChart(chart) {
  const figure = make("div", "chart");
  figure.append(make("h2", "", chart.title));
  const most = Math.max(1, ...chart.bins.map((bin) => bin[1]));
  for (const [label, count] of chart.bins) {
    const bar = make("div", "bar");
    const fill = make("div", count ? "fill" : "fill none");
    fill.style.width = `${(100 * count) / most}%`;
    const room = make("div");
    room.append(fill);
    bar.append(make("span", "", label), room, make("span", "", count.toLocaleString("en")));
    figure.append(bar);
  }
  return figure;
}

/* ---- which row ---- */

function choose(filter) {
  const wanted = data.kinds.some((kind) => kind.name === filter) || filter === "*" ? filter : "";
  const place = current() ? current().place : null;
  state.filter = wanted;
  state.rows = data.rows.filter((row) => !wanted || row.findings.some((each) => wanted === "*" || data.kinds[each[0]].name === wanted));
  find("filter").value = wanted;
  for (const button of document.querySelectorAll("#findings button")) button.setAttribute("aria-pressed", String(button.dataset.kind === wanted));
  go(Math.max(0, state.rows.findIndex((row) => row.place === place)));
}

const current = () => state.rows[state.at];

function go(at) {
  state.at = Math.min(Math.max(at, 0), Math.max(state.rows.length - 1, 0));
  state.part = 0;
  state.shown = TOKENS_AT_ONCE;
  draw();
  window.scrollTo({ top: 0 });
  const row = current();
  find("announcement").textContent = row ? `${row.place}, row ${state.at + 1} of ${state.rows.length}` : "no row";
  const hash = new URLSearchParams({ row: state.at + 1 });
  if (state.filter) hash.set("filter", state.filter);
  history.replaceState(null, "", `#${hash}`);
}

function readHash() {
  const hash = new URLSearchParams(location.hash.slice(1));
  choose(hash.get("filter") || "");
  go((parseInt(hash.get("row"), 10) || 1) - 1);
}

/* ---- one row ---- */

function draw() {
  const row = current();
  card.hide();
  find("row").value = state.rows.length ? state.at + 1 : 0;
  find("row").max = state.rows.length;
  find("rows").textContent = `of ${state.rows.length.toLocaleString("en")}`;
  find("previous").disabled = state.at <= 0;
  find("next").disabled = state.at >= state.rows.length - 1;
  find("row-findings").replaceChildren();
  find("examples").replaceChildren();
  find("tokens").replaceChildren();
  find("rest").hidden = true;
  find("place").textContent = row ? row.place : "No row has this finding on this page";
  find("counts").textContent = "";
  if (!row) return;
  for (const [index, seen] of row.findings) {
    const kind = data.kinds[index];
    const item = make("li", kind.severity);
    item.append(make("b", "", `${kind.severity}, ${kind.title}`), make("span", "", `: ${seen}${/[.!?]$/.test(seen) ? "" : "."}${kind.reasoned ? "" : ` Remedy: ${kind.remedy}.`}`));
    find("row-findings").append(item);
  }
  const parts = partsOf(row);
  if (parts.length > 1) parts.forEach((part, index) => find("examples").append(partButton(part, index, parts.length)));
  if (parts.length) drawPart(parts[state.part]);
  else find("counts").textContent = EXAMPLE_WORDS.no_example;
}

function partButton(part, index, count) {
  const button = make("button", "", view.partName(part, index, count));
  button.type = "button";
  button.setAttribute("aria-pressed", String(index === state.part));
  button.addEventListener("click", () => showPart(index));
  return button;
}

function showPart(index) {
  state.part = index;
  state.shown = TOKENS_AT_ONCE;
  draw();
}

function drawPart(part) {
  view.most = state.shown;
  const { counts, left } = view.draw(part);
  find("counts").textContent = counts;
  find("rest").hidden = left <= 0;
  if (left > 0) find("rest").textContent = view.restWords(left, TOKENS_AT_ONCE);
}

/* ---- mouse and keys ---- */

function listen() {
  find("previous").addEventListener("click", () => go(state.at - 1));
  find("next").addEventListener("click", () => go(state.at + 1));
  find("row").addEventListener("change", () => go((parseInt(find("row").value, 10) || 1) - 1));
  find("filter").addEventListener("change", () => choose(find("filter").value));
  find("rest").addEventListener("click", () => { state.shown += TOKENS_AT_ONCE; draw(); });
  find("keys").addEventListener("click", () => find("help").showModal());
  find("close").addEventListener("click", () => find("help").close());
  window.addEventListener("hashchange", readHash);
  document.addEventListener("keydown", onKey);
}

const KEYS = {
  j: () => go(state.at + 1), ArrowRight: () => go(state.at + 1), k: () => go(state.at - 1), ArrowLeft: () => go(state.at - 1),
  Home: () => go(0), End: () => go(state.rows.length - 1), f: () => find("filter").focus(), g: () => find("row").select(),
  e: nextPart, "?": () => find("help").showModal(), t: () => view.nextTrained(-1), Enter: () => view.focus(0),
};

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || find("help").open) return;
  const here = event.target;
  if (/^(INPUT|SELECT)$/.test(here.tagName)) { if (event.key === "Escape") here.blur(); return; }
  if (here.tagName === "BUTTON" && event.key === "Enter") return;
  const act = here.closest && here.closest("#tokens .token") ? view.keys(here)[event.key] || KEYS[event.key] : KEYS[event.key];
  if (!act) return;
  event.preventDefault();
  act();
}

function nextPart() {
  const row = current();
  const count = row ? partsOf(row).length : 0;
  if (count > 1) showPart((state.part + 1) % count);
}

drawSummary();
listen();
readHash();
