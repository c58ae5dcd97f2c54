// Draws one row at a time from the JSON in #data. Everything from the data goes in as text, never as markup.
const data = JSON.parse(document.getElementById("data").textContent);
const TOKENS_AT_ONCE = 6000;
const state = { filter: "", at: 0, example: 0, shown: TOKENS_AT_ONCE, rows: [] };
const find = (id) => document.getElementById(id);

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
  state.example = 0;
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
  hideCard();
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
    item.append(make("b", "", `${kind.severity}, ${kind.title}`), make("span", "", `: ${seen}. Remedy: ${kind.remedy}.`));
    find("row-findings").append(item);
  }
  if (row.examples.length > 1) row.examples.forEach((_, index) => find("examples").append(exampleButton(row, index)));
  if (row.examples.length) drawExample(row.examples[state.example]);
  else find("counts").textContent = "no example is made of this row";
}

function exampleButton(row, index) {
  const button = make("button", "", `example ${index + 1} of ${row.examples.length}`);
  button.type = "button";
  button.setAttribute("aria-pressed", String(index === state.example));
  button.addEventListener("click", () => { state.example = index; state.shown = TOKENS_AT_ONCE; draw(); });
  return button;
}

function tokensOf(example) {
  const tokens = [];
  let at = 0;
  for (const [count, weight, message, field] of example.runs)
    for (let end = at + count; at < end; at += 1) {
      const [id, text] = data.pieces[example.tokens[at]];
      tokens.push({ id, text, weight, message, field: field === null ? null : data.fields[field] });
    }
  return tokens;
}

function drawExample(example) {
  const tokens = tokensOf(example);
  const leftOut = example.limit !== null;
  const trained = leftOut ? 0 : tokens.filter((token) => token.weight > 0).length;
  const share = tokens.length ? Math.round((100 * trained) / tokens.length) : 0;
  const shortened = example.shortened ? ` · shortened: ${example.shortened}` : "";
  if (leftOut) find("counts").textContent = `${tokens.length.toLocaleString("en")} of ${example.limit.toLocaleString("en")} tokens: left out, nothing of it is trained. Shown as it would be with a higher limit`;
  else find("counts").textContent = `${tokens.length.toLocaleString("en")} tokens, ${trained.toLocaleString("en")} trained (${share}%)${shortened}`;
  const pane = find("tokens");
  example.blocks.forEach(([start, who], number) => {
    const end = number + 1 < example.blocks.length ? example.blocks[number + 1][0] : tokens.length;
    if (start >= state.shown || start >= end) return;
    const block = make("div", `block ${who.split(" ").pop()}`);
    const text = make("div", "text");
    for (let index = start; index < Math.min(end, state.shown); index += 1) {
      if (index === example.limit) text.append(make("span", "limit", `the limit: ${example.limit.toLocaleString("en")} tokens`));
      text.append(drawToken(tokens, index));
    }
    block.append(make("div", "who", who), text);
    pane.append(block);
  });
  pane.tokens = tokens;
  pane.roles = example.roles;
  const first = pane.querySelector(".token");
  if (first) first.tabIndex = 0;
  const left = tokens.length - state.shown;
  find("rest").hidden = left <= 0;
  if (left > 0) find("rest").textContent = `Show the next ${Math.min(left, TOKENS_AT_ONCE).toLocaleString("en")} of ${left.toLocaleString("en")} further tokens`;
}

function drawToken(tokens, index) {
  const token = tokens[index];
  const before = index ? tokens[index - 1].weight : 0;
  const after = index + 1 < tokens.length ? tokens[index + 1].weight : 0;
  const kind = token.weight === 1 ? "full" : token.weight > 1 ? "more" : token.weight > 0 ? "part" : token.message === null ? "printed" : "read";
  const span = make("span", `token ${kind}${index % 2 ? " b" : ""}`);
  if (token.weight > 0 && before !== token.weight) span.classList.add("run-start");
  if (token.weight > 0 && after !== token.weight) {
    span.classList.add("run-end");
    span.dataset.weight = token.weight === 1 ? "" : `×${token.weight}`;
  }
  span.dataset.index = index;
  span.tabIndex = -1;
  span.setAttribute("aria-describedby", "card");
  write(span, token.text);
  return span;
}

/* ---- the card of one token ---- */

function showCard(span) {
  const pane = find("tokens");
  const token = pane.tokens[Number(span.dataset.index)];
  const role = token.message === null || token.message < 0 ? null : pane.roles[token.message];
  const message = token.message === null ? "none: printed by the template" : role === null ? "none: tools or template variables" : `${token.message + 1} (${role})`;
  find("card-text").textContent = JSON.stringify(token.text).replace(/[\u007f-\u009f\u00a0\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g, name);
  const facts = find("card-facts");
  facts.replaceChildren();
  const weight = token.weight > 0 ? `${token.weight}, trained` : "0, only read";
  for (const [word, value] of [["id", token.id], ["weight", weight], ["message", message], ["field", token.field === null ? "none" : token.field], ["position", span.dataset.index]])
    facts.append(make("dt", "", word), make("dd", "", String(value)));
  const card = find("card");
  card.hidden = false;
  const box = span.getClientRects()[0];
  const left = Math.min(box.left + scrollX, scrollX + document.documentElement.clientWidth - card.offsetWidth - 12);
  const below = box.bottom + card.offsetHeight + 16 < innerHeight;
  card.style.left = `${Math.max(8, left)}px`;
  card.style.top = `${below ? box.bottom + scrollY + 8 : box.top + scrollY - card.offsetHeight - 8}px`;
}

function hideCard() { find("card").hidden = true; }

function focusToken(index) {
  const spans = find("tokens").querySelectorAll(".token");
  const span = spans[Math.min(Math.max(index, 0), spans.length - 1)];
  if (!span) return;
  const before = find("tokens").querySelector('[tabindex="0"]');
  if (before) before.tabIndex = -1;
  span.tabIndex = 0;
  span.focus();
}

/* ---- mouse and keys ---- */

function listen() {
  const pane = find("tokens");
  pane.addEventListener("mouseover", (event) => { const span = event.target.closest(".token"); if (span) showCard(span); });
  pane.addEventListener("mouseleave", () => { const held = document.activeElement.closest("#tokens .token"); if (held) showCard(held); else hideCard(); });
  pane.addEventListener("focusin", (event) => { const span = event.target.closest(".token"); if (span) showCard(span); });
  pane.addEventListener("focusout", hideCard);
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
  e: nextExample, "?": () => find("help").showModal(), t: () => nextTrained(-1), Enter: () => focusToken(0),
};

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || find("help").open) return;
  const here = event.target;
  if (/^(INPUT|SELECT)$/.test(here.tagName)) { if (event.key === "Escape") here.blur(); return; }
  if (here.tagName === "BUTTON" && event.key === "Enter") return;
  const act = here.closest && here.closest("#tokens .token") ? tokenKeys(here)[event.key] || KEYS[event.key] : KEYS[event.key];
  if (!act) return;
  event.preventDefault();
  act();
}

function tokenKeys(span) {
  const index = Number(span.dataset.index);
  return {
    ArrowRight: () => focusToken(index + 1), ArrowLeft: () => focusToken(index - 1),
    Home: () => focusToken(0), End: () => focusToken(Infinity), t: () => nextTrained(index), Escape: () => span.blur(), Enter: () => {},
  };
}

function nextTrained(index) {
  const spans = [...find("tokens").querySelectorAll(".token")];
  const next = spans.findIndex((span, at) => at > index && span.classList.contains("run-start"));
  if (next >= 0) focusToken(next);
}

function nextExample() {
  const row = current();
  if (!row || row.examples.length < 2) return;
  state.example = (state.example + 1) % row.examples.length;
  state.shown = TOKENS_AT_ONCE;
  draw();
}

drawSummary();
listen();
readHash();
