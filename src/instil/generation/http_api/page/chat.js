// The chat. What a model or a person writes goes in as text, never as markup.

const find = (id) => document.getElementById(id);
const SETTINGS = ["temperature", "top_p", "top_k", "max_tokens", "seed"];
const chat = { turns: [], model: "", answering: null, isEditing: false };

/* ---- the request ---- */

async function loadModel() {
  const names = (await (await call("v1/models")).json()).data.map((entry) => entry.id);
  chat.model = names[0];
  find("model").textContent = chat.model;
  document.title = `${chat.model} – chat`;
}

function settingsGiven() {
  const given = {};
  for (const name of SETTINGS) {
    const field = find(name);
    field.removeAttribute("aria-invalid");
    if (field.validity.badInput) throw new Refusal(`${name}: found no number. Expected a number, or nothing for the default.`, name);
    if (field.value === "") continue;
    given[name] = Number(field.value);
    const isExact = !Number.isInteger(given[name]) || Number.isSafeInteger(given[name]);
    if (!isExact) throw new Refusal(`${name}: found ${field.value}. Expected a number below 2**53. Choose a smaller one.`, name);
  }
  return given;
}

function messagesBefore(turns) {
  const system = find("system").value;
  const messages = system.trim() ? [{ role: "system", content: system }] : [];
  for (const turn of turns) {
    const message = { role: turn.role, content: turn.text };
    if (turn.reasoning) message.reasoning_content = turn.reasoning;
    messages.push(message);
  }
  return messages;
}

// Sends a question behind `kept`; without one, the last question of `kept` is answered. Nothing is lost if it fails.
async function ask(kept, question) {
  if (chat.answering) return;
  const before = chat.turns;
  const control = new AbortController();
  chat.answering = control;
  const turns = question === null ? kept : [...kept, newTurn("user", question)];
  const answer = newTurn("assistant", "");
  showProblem(null);
  show([...turns, answer]);
  toEnd(true);
  let refusal = null;
  try {
    const settings = settingsGiven();
    if (!chat.model) await loadModel();
    answer.messages = messagesBefore(turns);
    await receive(answer, settings, control.signal);
  } catch (error) {
    if (error.name !== "AbortError") refusal = error;
    answer.notes.push(error.name === "AbortError" ? "stopped" : "not complete");
  }
  chat.answering = null;
  const isLost = answer.notes.length > 0 && !answer.ids.length;
  finish(answer);
  if (isLost) show(before);
  else leaveEditing();
  if (isLost && question !== null) find("question").value = [question, find("question").value].filter(Boolean).join("\n");
  showProblem(refusal);
  refresh();
}

async function receive(answer, settings, signal) {
  const start = performance.now();
  const response = await call("v1/chat/completions", {
    model: chat.model, messages: answer.messages, stream: true, stream_options: { include_usage: true },
    return_token_ids: true, ...settings,
  }, signal);
  for await (const piece of events(response)) {
    if (piece.usage) answer.notes.push(`${piece.usage.prompt_tokens} + ${piece.usage.completion_tokens} tokens`);
    for (const choice of piece.choices) {
      answer.ids.push(...(choice.token_ids || []));
      add(answer, choice.delta || {});
      if (choice.finish_reason === "length") answer.notes.push("cut at the limit of its length");
    }
  }
  answer.notes.push(`${((performance.now() - start) / 1000).toFixed(1)} s`);
}

/* ---- turns ---- */

function newTurn(role, text) {
  const turn = { role, text: "", reasoning: "", ids: [], notes: [], messages: [] };
  turn.element = make("li", `turn ${role}`);
  turn.element.append(make("h2", "", role === "user" ? "You" : "Model"));
  turn.content = make("div", "said content");
  turn.content.dir = "auto";
  turn.remarks = make("p", "notes");
  turn.actions = make("div", "actions");
  turn.buttons = {};
  if (role === "assistant") {
    turn.element.setAttribute("aria-busy", "true");
    turn.element.classList.add("busy");
    addButton(turn, "Regenerate", () => ask(chat.turns.slice(0, -1), null));
    addButton(turn, "Tokens", () => toggleTokens(turn));
  } else addButton(turn, "Edit", edit);
  addButton(turn, "Copy", () => copy(turn));
  turn.element.append(turn.content, turn.remarks, turn.actions);
  add(turn, { content: text });
  return turn;
}

function addButton(turn, name, act) {
  const button = make("button", "", name);
  button.type = "button";
  button.addEventListener("click", act);
  turn.buttons[name] = button;
  turn.actions.append(button);
}

function add(turn, delta) {
  const follows = isAtEnd();
  if (delta.reasoning_content) {
    if (!turn.reasoning) {
      turn.fold = make("details");
      turn.thoughts = make("div", "said");
      turn.thoughts.dir = "auto";
      turn.fold.append(make("summary", "", "Reasoning"), turn.thoughts);
      turn.content.before(turn.fold);
    }
    turn.reasoning += delta.reasoning_content;
    turn.thoughts.append(delta.reasoning_content);
  }
  if (delta.content) {
    turn.text += delta.content;
    turn.content.append(delta.content);
  }
  if (follows) toEnd(false);
}

function finish(answer) {
  answer.element.removeAttribute("aria-busy");
  answer.element.classList.remove("busy");
  if (!answer.text && !answer.notes.includes("stopped")) answer.notes.unshift(answer.reasoning ? "only reasoning" : "the answer is empty");
  answer.remarks.textContent = answer.notes.join(" · ");
  find("announcement").textContent = `Model: ${answer.text} (${answer.notes.join(", ")})`;
}

function show(turns) {
  chat.turns = turns;
  find("turns").replaceChildren(...turns.map((turn) => turn.element));
  refresh();
}

function refresh() {
  const busy = chat.answering !== null;
  const lastQuestion = chat.turns.findLast((turn) => turn.role === "user");
  for (const turn of chat.turns) {
    if (turn.buttons.Edit) turn.buttons.Edit.hidden = turn !== lastQuestion;
    if (turn.buttons.Regenerate) turn.buttons.Regenerate.hidden = turn !== chat.turns.at(-1);
    for (const button of Object.values(turn.buttons)) button.disabled = busy;
  }
  find("empty").hidden = chat.turns.length > 0;
  find("clear").disabled = busy || !chat.turns.length;
  find("send").hidden = busy;
  find("stop").hidden = !busy;
  find("send").disabled = !find("question").value.trim();
  find("editing").hidden = !chat.isEditing;
  find("system-sign").hidden = !find("system").value.trim();
  const given = SETTINGS.filter((name) => find(name).value !== "").map((name) => `${name} ${find(name).value}`);
  find("sampling-sign").textContent = given.length ? ` · ${given.join(", ")}` : "";
}

const isAtEnd = () => innerHeight + scrollY >= document.documentElement.scrollHeight - 40;
function toEnd(always) { if (always || !isAtEnd()) scrollTo({ top: document.documentElement.scrollHeight }); }

function showProblem(refusal) {
  find("problem").hidden = !refusal;
  find("problem").textContent = refusal ? refusal.message : "";
  const param = refusal && (refusal.param === "max_completion_tokens" ? "max_tokens" : refusal.param);
  if (!SETTINGS.includes(param)) return;
  find("sampling").open = true;
  find(param).setAttribute("aria-invalid", "true");
  find(param).focus();
}

/* ---- what a person does ---- */

function send() {
  const question = find("question").value;
  if (chat.answering || !question.trim()) return;
  const last = chat.turns.findLastIndex((turn) => turn.role === "user");
  const kept = chat.isEditing ? chat.turns.slice(0, last) : chat.turns;
  find("question").value = "";
  ask(kept, question);
}

function edit() {
  chat.isEditing = true;
  find("question").value = chat.turns.findLast((turn) => turn.role === "user").text;
  find("question").focus();
  refresh();
}

function leaveEditing() {
  chat.isEditing = false;
  refresh();
}

function cancelEditing() {
  find("question").value = "";
  leaveEditing();
}

async function copy(turn) {
  const button = turn.buttons.Copy;
  const isCopied = await toClipboard(turn.text);
  button.textContent = isCopied ? "Copied" : "Not copied: the browser does not allow it";
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
}

async function toClipboard(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Over plain HTTP from another machine there is no clipboard; the older way works there.
    const field = make("textarea", "unseen");
    field.value = text;
    document.body.append(field);
    field.select();
    const isCopied = document.execCommand("copy");
    field.remove();
    return isCopied;
  }
}

/* ---- the tokens of an answer ---- */

async function toggleTokens(turn) {
  const button = turn.buttons.Tokens;
  const isOpen = button.getAttribute("aria-expanded") === "true";
  if (turn.pane) turn.pane.remove();
  button.setAttribute("aria-expanded", String(!isOpen));
  if (isOpen) return;
  try {
    const body = { model: chat.model, messages: turn.messages, token_ids: turn.ids };
    const answer = await (await call("instil/tokens", body)).json();
    if (turn.pane) turn.pane.remove();
    turn.pane = drawTokens(answer);
    turn.element.append(turn.pane);
  } catch (error) {
    button.setAttribute("aria-expanded", "false");
    showProblem(error);
  }
}

/* ---- mouse and keys ---- */

find("composer").addEventListener("submit", (event) => { event.preventDefault(); send(); });
find("question").addEventListener("keydown", (event) => {
  const isComposing = event.isComposing || event.keyCode === 229; // Enter that chooses a word of an input method
  if (event.key !== "Enter" || event.shiftKey || isComposing) return;
  event.preventDefault();
  send();
});
for (const id of ["question", "system", ...SETTINGS]) find(id).addEventListener("input", refresh);
find("stop").addEventListener("click", () => chat.answering.abort());
find("clear").addEventListener("click", () => { cancelEditing(); showProblem(null); show([]); find("question").focus(); });
find("leave-editing").addEventListener("click", cancelEditing);
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || find("key-dialog").open) return;
  if (chat.answering) chat.answering.abort();
  else if (chat.isEditing) cancelEditing();
});
refresh();
loadModel().catch(showProblem);
