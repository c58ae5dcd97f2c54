// Requests to this server: with the key if it asks for one, answers as they come, errors in the server's words.

class Refusal extends Error {
  constructor(message, param = null) {
    super(message);
    this.param = param;
  }
}

let apiKey = ""; // in memory only

async function call(path, body, signal) {
  const headers = {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (apiKey) headers.Authorization = `Bearer ${apiKey}`;
  const request = { headers, signal, credentials: "omit", cache: "no-store", redirect: "error" };
  if (body !== undefined) Object.assign(request, { method: "POST", body: JSON.stringify(body) });
  let response;
  try {
    response = await fetch(path, request);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal("The server does not answer. Look whether it still runs, and send again.");
  }
  if (response.ok) return response;
  const refusal = await refusalOf(response);
  if (response.status !== 401) throw refusal;
  await askForKey(apiKey ? "This key is not the server's." : "");
  return call(path, body, signal);
}

async function refusalOf(response) {
  let problem = null;
  try {
    problem = (await response.json()).error;
  } catch (error) {
    if (error.name === "AbortError") throw error;
  }
  if (problem && problem.message) return new Refusal(problem.message, problem.param);
  return new Refusal(`The server answered with status ${response.status}, without a reason. Its log may have more.`);
}

// Yields the JSON of each event. Throws if the server says so, or if the stream ends before its last event.
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { done, value } = await nextPiece(reader);
    if (done) throw new Refusal("The connection ended before the answer was complete.");
    held += value;
    for (let end = held.indexOf("\n\n"); end >= 0; end = held.indexOf("\n\n")) {
      const line = held.slice(0, end);
      held = held.slice(end + 2);
      if (!line.startsWith("data: ")) continue;
      if (line === "data: [DONE]") return;
      const event = JSON.parse(line.slice(6));
      if (event.error) throw new Refusal(event.error.message, event.error.param);
      yield event;
    }
  }
}

async function nextPiece(reader) {
  try {
    return await reader.read();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal("The connection ended before the answer was complete.");
  }
}

// Resolves when a key has been given, rejects when none is.
function askForKey(problem) {
  const dialog = document.getElementById("key-dialog");
  const words = document.getElementById("key-problem");
  const field = document.getElementById("key");
  const say = (text) => { words.textContent = text; words.hidden = !text; };
  say(problem);
  field.value = "";
  dialog.showModal();
  field.focus();
  return new Promise((resolve, reject) => {
    let given = "";
    document.getElementById("key-form").onsubmit = (event) => {
      event.preventDefault();
      const text = field.value.trim();
      if (!/^[\x21-\x7e]+$/.test(text)) { say("Expected a key of letters, digits and signs, without spaces."); return; }
      given = text;
      dialog.close();
    };
    document.getElementById("key-cancel").onclick = () => dialog.close();
    dialog.onclose = () => {
      field.value = "";
      if (!given) { reject(new Refusal("This server asks for its API key. Nothing was sent without it.")); return; }
      apiKey = given;
      resolve();
    };
  });
}
