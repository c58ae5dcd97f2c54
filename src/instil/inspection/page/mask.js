// Draws one row at a time from the JSON in #data. Everything from the data goes in as text, never as markup.
const data = JSON.parse(document.getElementById("data").textContent);
const TOKENS_AT_ONCE = 6000;
const state = { filter: "", at: 0, part: 0, shown: TOKENS_AT_ONCE, rows: [] };
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
    item.append(make("b", "", `${kind.severity}, ${kind.title}`), make("span", "", `: ${seen}${/[.!?]$/.test(seen) ? "" : "."}${kind.reasoned ? "" : ` Remedy: ${kind.remedy}.`}`));
    find("row-findings").append(item);
  }
  const parts = partsOf(row);
  if (parts.length > 1) parts.forEach((part, index) => find("examples").append(partButton(part, index, parts.length)));
  if (parts.length) drawPart(parts[state.part]);
  else find("counts").textContent = "no example is made of this row";
}

// What is shown as one: both sides of a pair, or an example alone.
function partsOf(row) {
  const pairs = new Map(row.pairs || []);
  const parts = [];
  for (let at = 0; at < row.examples.length; at += parts.at(-1).examples.length)
    parts.push({ examples: row.examples.slice(at, pairs.has(at) ? at + 2 : at + 1), common: pairs.get(at) });
  return parts;
}

const isPair = (part) => part.examples.length > 1;

function partButton(part, index, count) {
  const button = make("button", "", `${isPair(part) ? "pair" : "example"} ${index + 1} of ${count}`);
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

function tokensOf(example) {
  const tokens = [];
  let at = 0;
  for (const [count, weight, message, field] of example.runs)
    for (let end = at + count; at < end; at += 1) {
      const [id, text] = data.pieces[example.tokens[at]];
      tokens.push({ id, text, weight, message, field: field === null ? null : data.fields[field], position: at, example });
    }
  return tokens;
}

function drawPart(part) {
  const pane = find("tokens");
  pane.shown = [];
  const { examples } = part;
  const tokens = examples.map(tokensOf);
  let left;
  if (isPair(part)) left = drawPair(pane, examples, tokens, part.common);
  else {
    find("counts").textContent = (examples[0].answer ? `${examples[0].answer} · ` : "") + countsOf(examples[0], tokens[0]);
    left = drawRange(pane, examples[0], tokens[0], 0, tokens[0].length);
  }
  const first = pane.querySelector(".token");
  if (first) first.tabIndex = 0;
  find("rest").hidden = left <= 0;
  if (left > 0) find("rest").textContent = `Show the next ${Math.min(left, TOKENS_AT_ONCE).toLocaleString("en")} of ${left.toLocaleString("en")} further tokens`;
}

const numTrained = (tokens) => tokens.filter((token) => token.weight > 0).length;
const isLeftOut = (example) => example.limit !== null || Boolean(example.leftOut);

function countsOf(example, tokens) {
  const count = tokens.length.toLocaleString("en");
  if (example.limit !== null) return `${count} of ${example.limit.toLocaleString("en")} tokens: left out, nothing of it is trained. Shown as it would be with a higher limit`;
  if (Boolean(example.leftOut)) return `${count} tokens, none trained: left out (${example.leftOut})`;
  const trained = numTrained(tokens);
  const share = tokens.length ? Math.round((100 * trained) / tokens.length) : 0;
  const shortened = example.shortened ? ` · shortened: ${example.shortened}` : "";
  return `${count} tokens, ${trained.toLocaleString("en")} trained (${share}%)${shortened}`;
}

// The prompt that both sides share once, then both answers beside each other. The number of tokens not drawn is returned.
function drawPair(pane, examples, tokens, common) {
  const leftOut = examples.some(isLeftOut);
  const reason = examples[0].limit !== null ? "too long" : examples[0].leftOut;
  find("counts").textContent = (leftOut ? `left out (${reason}): nothing of it is trained. Shown as it would be otherwise · ` : "") + `the same for both: ${common.toLocaleString("en")} tokens, only read`;
  let left = drawRange(pane, examples[0], tokens[0], 0, common);
  const sides = make("div", "sides");
  examples.forEach((example, index) => {
    const side = make("section", `side ${example.side}`);
    side.setAttribute("aria-label", example.side);
    const count = tokens[index].length.toLocaleString("en");
    const trained = leftOut ? `${count} tokens, none trained` : `${numTrained(tokens[index]).toLocaleString("en")} of ${count} tokens trained`;
    const head = make("p", "head");
    const shortened = example.shortened ? ` · shortened: ${example.shortened}` : "";
    head.append(make("b", "", example.side), make("span", "facts", ` ${trained}${shortened}`));
    side.append(head);
    left += drawRange(side, example, tokens[index], common, tokens[index].length);
    sides.append(side);
  });
  pane.append(sides);
  return left;
}

// Draws the blocks of an example from one token to another, at most as many tokens as are shown at once.
function drawRange(place, example, tokens, from, to) {
  const last = Math.min(to, from + state.shown);
  example.blocks.forEach(([begins, who], number) => {
    const start = Math.max(begins, from);
    const end = Math.min(number + 1 < example.blocks.length ? example.blocks[number + 1][0] : tokens.length, last);
    if (start >= end) return;
    const block = make("div", `block ${who.split(" ").pop()}`);
    const text = make("div", "text");
    for (let index = start; index < end; index += 1) {
      if (index === example.limit) text.append(make("span", "limit", `the limit: ${example.limit.toLocaleString("en")} tokens`));
      text.append(drawToken(tokens, index));
    }
    block.append(make("div", "who", who), text);
    place.append(block);
  });
  return to - last;
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
  const shown = find("tokens").shown;
  span.dataset.index = shown.length;
  shown.push(token);
  span.tabIndex = -1;
  span.setAttribute("aria-describedby", "card");
  write(span, token.text);
  return span;
}

/* ---- the card of one token ---- */

function showCard(span) {
  const token = find("tokens").shown[Number(span.dataset.index)];
  const role = token.message === null || token.message < 0 ? null : token.example.roles[token.message];
  const message = token.message === null ? "none: printed by the template" : role === null ? "none: tools or template variables" : `${token.message + 1} (${role})`;
  find("card-text").textContent = JSON.stringify(token.text).replace(/[\u007f-\u009f\u00a0\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g, name);
  const facts = find("card-facts");
  facts.replaceChildren();
  const weight = token.weight > 0 ? `${token.weight}, ${isLeftOut(token.example) ? "but left out" : "trained"}` : "0, only read";
  const words = [["id", token.id], ["weight", weight], ["message", message], ["field", token.field === null ? "none" : token.field], ["position", token.position]];
  if (token.example.side && token.weight > 0) words.push(["answer", token.example.answer]);
  for (const [word, value] of words)
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
  e: nextPart, "?": () => find("help").showModal(), t: () => nextTrained(-1), Enter: () => focusToken(0),
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

function nextPart() {
  const row = current();
  const count = row ? partsOf(row).length : 0;
  if (count > 1) showPart((state.part + 1) % count);
}

drawSummary();
listen();
readHash();
