/* The chat: answers appear as they are written, settings are kept as they change, tokens open below their answer.

   Everything else is a form; the page works without this file, but for the pieces of an answer. */
"use strict";

(() => {
  let source = null;
  const chat = () => document.getElementById("chat");
  const draftName = () => `instil-chat-${chat().dataset.identity}`;

  const begin = () => {
    const place = chat();
    source?.close();
    source = null;
    if (!place) return;
    place.classList.add("scripted");
    nameFiles(place);
    const question = document.getElementById("question");
    if (!question.value) question.value = sessionStorage.getItem(draftName()) || "";
    if (place.dataset.answers) listen(place);
  };

  const listen = (place) => {
    source = new EventSource(place.dataset.answers);
    const write = (event, isWhole) => {
      const piece = JSON.parse(event.data), reply = place.querySelector(`[data-side="${piece.side}"]`);
      if (!reply) return;
      const follows = innerHeight + scrollY >= document.documentElement.scrollHeight - 60;
      const answer = reply.querySelector(".answer"), thoughts = reply.querySelector(".thoughts");
      if (!isWhole && !piece.text && !piece.reasoning && reply.querySelector(".waiting").textContent === piece.note) return;
      if (isWhole) { answer.textContent = ""; thoughts.textContent = ""; }
      answer.append(piece.text);
      thoughts.append(piece.reasoning);
      reply.querySelector(".reasoning").hidden = !thoughts.textContent;
      reply.querySelector(".waiting").textContent = piece.note;
      if (follows) scrollTo({ top: document.documentElement.scrollHeight });
    };
    source.addEventListener("reply", (event) => write(event, true));
    source.addEventListener("piece", (event) => write(event, false));
    source.addEventListener("done", async () => {
      source.close();
      const typed = document.getElementById("question").value;
      sessionStorage.setItem(draftName(), typed);
      await window.instil.fetchInto(location.href, ["#chat"]);
      const answers = [...document.querySelectorAll(".exchange:last-child .answer")].map((answer) => answer.textContent);
      window.instil.announce(answers.join("\n"));
    });
  };

  /* Where rows and pairs go is the choice of this browser; every form of the page gets it. */
  const nameFiles = (place) => {
    place.querySelectorAll("[data-names]").forEach((field) => {
      field.value = localStorage.getItem(`instil-chat-file-${field.dataset.names}`) || field.value;
      place.querySelectorAll(`[data-file="${field.dataset.names}"]`).forEach((hidden) => { hidden.value = field.value; });
    });
  };

  const keepSettings = async (place) => {
    const body = new URLSearchParams(new FormData(document.getElementById("ask")));
    body.delete("question");
    const answer = await fetch(place.dataset.save, { method: "post", body }).catch(() => null);
    const text = answer ? await answer.text() : "";
    if (!answer) { window.instil.announce(document.getElementById("announcement").dataset.failed); return; }
    const fresh = new DOMParser().parseFromString(text, "text/html").getElementById("settings");
    if (fresh) window.instil.replaceKeeping(fresh);
  };

  /* Shows what is wrong and what is set without touching a field that is being typed in. */
  window.instil.replaceKeeping = (fresh) => {
    const old = document.getElementById("settings");
    for (const part of old.querySelectorAll("details")) {
      const next = fresh.querySelector(`#${part.id}`);
      part.querySelector("summary").replaceChildren(...next.querySelector("summary").childNodes);
      part.querySelectorAll(".error").forEach((problem) => problem.remove());
      part.querySelectorAll("[aria-invalid]").forEach((field) => { field.removeAttribute("aria-invalid"); field.removeAttribute("aria-describedby"); });
      next.querySelectorAll(".error").forEach((problem) => {
        const field = part.querySelector(`[name="${CSS.escape(problem.id.replace("problem-", ""))}"]`);
        if (!field) return;
        field.setAttribute("aria-invalid", "true");
        field.setAttribute("aria-describedby", problem.id);
        field.after(problem);
      });
    }
  };

  const showTokens = async (link, place) => {
    const answer = await fetch(link.href).catch(() => null);
    const fresh = answer && new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("tokens");
    if (!fresh) { location.assign(link.href); return; }
    fresh.removeAttribute("id");
    place.replaceChildren(fresh);
  };

  document.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    const opener = event.target.closest?.("a[data-tokens]"), inside = event.target.closest?.(".tokens-place a[data-tokens-of]");
    if (opener) {
      event.preventDefault();
      const place = document.getElementById(opener.dataset.tokens), isOpen = opener.getAttribute("aria-expanded") === "true";
      opener.setAttribute("aria-expanded", String(!isOpen));
      if (isOpen) place.replaceChildren(); else showTokens(opener, place);
    } else if (inside) {
      event.preventDefault();
      showTokens(inside, inside.closest(".tokens-place"));
    }
  });

  document.addEventListener("change", (event) => {
    const place = event.target.closest?.("#settings[data-save]");
    if (place) keepSettings(place);
    if (event.target.dataset?.names) { localStorage.setItem(`instil-chat-file-${event.target.dataset.names}`, event.target.value); nameFiles(chat()); }
  });
  document.addEventListener("input", (event) => { if (event.target.id === "question" && chat()) sessionStorage.setItem(draftName(), event.target.value); });
  document.addEventListener("submit", (event) => { if (event.target.id === "ask" && !event.submitter?.hasAttribute("formaction")) sessionStorage.removeItem(draftName()); });
  document.addEventListener("keydown", (event) => {
    if (event.target.id !== "question" || !chat()) return;
    const isComposing = event.isComposing || event.keyCode === 229; // Enter that chooses a word of an input method
    if (event.key !== "Enter" || event.shiftKey || isComposing) return;
    event.preventDefault();
    document.getElementById("send")?.click();
  });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape" && chat()?.dataset.answers) chat().querySelector(".composer form.inline button").click(); });
  document.addEventListener("swapped", (event) => { if (event.target.id === "chat" || event.target.id === "content") begin(); });
  document.addEventListener("DOMContentLoaded", begin);
})();
