"use strict";
// Draws the answers from the JSON in #data. Everything from the data goes in as text, never as markup.
const data = JSON.parse(document.getElementById("data").textContent);
const AT_ONCE = 100;
const LONG = 600;
let limit = AT_ONCE;
const find = (id) => document.getElementById(id);

function make(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

const textOf = (message) => {
  if (typeof message.content === "string") return message.content;
  return message.content === null || message.content === undefined ? "" : JSON.stringify(message.content);
};
const rows = data.rows.map((row, number) => ({
  number,
  place: row.place || String(number + 1),
  turn: row.turn,
  asked: row.prompt.map((message) => ({ who: message.role, text: textOf(message) })),
  reference: row.reference,
  answers: row.answers,
}));
for (const row of rows) row.words = [...row.asked.map((each) => each.text), row.reference || "", ...row.answers.map((each) => each.text)].join("\n").toLowerCase();

function score(row, side) {
  const task = find("task").value;
  const scores = row.answers[side] && row.answers[side].scores[task];
  return scores ? scores[data.tasks[task]] : undefined;
}

const isCompared = () => data.names.length > 1 && !data.not_compared.includes(find("task").value);

function outcome(row) {
  if (!isCompared()) return "";
  const ours = score(row, 0), theirs = score(row, 1);
  if (ours === undefined || theirs === undefined) return "";
  return ours > theirs ? "won" : ours < theirs ? "lost" : "tie";
}

const FILTERS = {
  all: ["all answers", () => true],
  wrong: ["not right", (row) => score(row, 0) < 1],
  won: ["won", (row) => outcome(row) === "won"],
  lost: ["lost", (row) => outcome(row) === "lost"],
  tie: ["tied", (row) => outcome(row) === "tie"],
  changed: ["won or lost", (row) => ["won", "lost"].includes(outcome(row))],
  differs: ["other text", (row) => row.answers.length > 1 && row.answers[0].text !== row.answers[1].text],
  cut: ["cut at the limit", (row) => row.answers[0].finish_reason === "length"],
};
const ORDERS = {
  place: ["as in the data", (row) => row.number],
  score: ["lowest score first", (row) => { const value = score(row, 0); return value === undefined ? 2 : value; }],
  longest: ["longest answer first", (row) => -row.answers[0].tokens],
};

function shownRows() {
  const wanted = find("search").value.toLowerCase();
  const [, keep] = FILTERS[find("filter").value];
  const [, key] = ORDERS[find("order").value];
  return rows.filter((row) => keep(row) && row.words.includes(wanted)).sort((a, b) => key(a) - key(b) || a.number - b.number);
}

function longText(text) {
  const box = make("div", "text", text.length > LONG * 40 ? `${text.slice(0, LONG * 40)} …` : text);
  box.dir = "auto";
  box.tabIndex = 0;
  return box;
}

function askedPart(row) {
  const part = make("div", "asked");
  const last = row.asked.length - 1;
  const earlier = row.asked.slice(0, last);
  if (earlier.length) {
    const folded = make("details");
    folded.append(make("summary", "", `${earlier.length} earlier ${earlier.length === 1 ? "message" : "messages"}`));
    for (const each of earlier) folded.append(make("p", "who", each.who), longText(each.text));
    part.append(folded);
  }
  if (last >= 0) part.append(make("p", "who", row.asked[last].who), longText(row.asked[last].text));
  return part;
}

function answerPart(row, side) {
  const answer = row.answers[side];
  const part = make("div");
  const who = make("p", "who");
  const value = score(row, side);
  const ends = answer.finish_reason === "length" ? " · cut at the limit" : "";
  who.append(make("b", "", data.names[side]), ` · ${value === undefined ? "no score" : `score ${Number(value.toFixed(2))}`} · ${answer.tokens} tokens${ends}`);
  part.append(who, longText(answer.text || "(no text)"));
  return part;
}

function drawRow(row) {
  const how = outcome(row);
  const one = make("article", `one ${how}`);
  one.tabIndex = -1;
  const head = make("h3", "");
  head.append(make("span", "", row.turn > 1 ? `${row.place}, turn ${row.turn}` : row.place));
  if (how) head.append(make("span", { won: "good", lost: "error", tie: "soft" }[how], { won: "won", lost: "lost", tie: "tied" }[how]));
  const sides = make("div", "sides");
  if (row.reference !== null && row.reference !== undefined) {
    const part = make("div");
    part.append(make("p", "who", "reference"), longText(row.reference));
    sides.append(part);
  }
  row.answers.forEach((_, side) => sides.append(answerPart(row, side)));
  one.append(head, askedPart(row), sides);
  return one;
}

function draw() {
  const list = shownRows();
  find("rows").replaceChildren(...list.slice(0, limit).map(drawRow));
  const left = list.length - limit;
  find("more").hidden = left <= 0;
  find("more").textContent = `Show ${Math.min(left, AT_ONCE)} of ${left} further answers`;
  find("count").textContent = `${list.length.toLocaleString("en")} of ${rows.length.toLocaleString("en")}`;
}

function addOptions(id, options) {
  for (const [value, words] of options) {
    const option = make("option", "", words);
    option.value = value;
    find(id).append(option);
  }
}

function move(by) {
  const all = [...document.querySelectorAll(".one")];
  const at = all.indexOf(document.activeElement && document.activeElement.closest(".one"));
  const next = all[Math.min(Math.max(at + by, 0), all.length - 1)];
  if (next) { next.focus(); next.scrollIntoView({ block: "start" }); }
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
  if (event.key === "j") move(1);
  else if (event.key === "k") move(-1);
  else if (event.key === "f") find("filter").focus();
  else if (event.key === "/") find("search").focus();
  else return;
  event.preventDefault();
});

const alone = ["all", "wrong", "cut"];
addOptions("task", Object.keys(data.tasks).map((task) => [task, task]));
addOptions("filter", Object.entries(FILTERS).filter(([name]) => data.names.length > 1 || alone.includes(name)).map(([name, [words]]) => [name, words]));
addOptions("order", Object.entries(ORDERS).map(([name, [words]]) => [name, words]));
if (rows.some((row) => ["won", "lost"].includes(outcome(row)))) find("filter").value = "changed";
for (const id of ["task", "filter", "order", "search"]) find(id).addEventListener("input", () => { limit = AT_ONCE; draw(); });
find("more").addEventListener("click", () => { limit += AT_ONCE; draw(); });
draw();
