// Examples of a row as tokens, on the mask page and in the studio. Everything from the data goes in as text, never as markup.

const EXAMPLE_WORDS = {
  pair: "pair {number} of {count}", example: "example {number} of {count}", no_example: "no example is made of this row",
  over_limit: "{count} of {limit} tokens: left out, nothing of it is trained. Shown as it would be with a higher limit",
  left_out: "{count} tokens, none trained: left out ({reason})", counts: "{count} tokens, {trained} trained ({share}%)",
  shortened: " · shortened: {how}", pair_left_out: "left out ({reason}): nothing of it is trained. Shown as it would be otherwise · ",
  too_long: "too long", common: "the same for both: {count} tokens, only read", side_none: "{count} tokens, none trained",
  side_counts: "{trained} of {count} tokens trained", limit: "the limit: {limit} tokens", rest: "Show the next {next} of {left} further tokens",
  id: "id", weight: "weight", message: "message", field: "field", position: "position", answer: "answer",
  trained: "{weight}, trained", not_counted: "{weight}, but left out", read: "0, only read",
  of_template: "none: printed by the template", of_variables: "none: tools or template variables", of_message: "{number} ({role})", no_field: "none",
  why_answer: "The model has to write it: it is part of an answer.", why_ending: "The template prints it in or behind an answer, so the model has to write it.",
  why_rejected: "It is part of the worse answer: the loss makes it less likely.", why_weight: " Its weight comes from the row, the turn or the source.",
  why_template: "The template prints it around the messages. In serving it is part of the prompt.", why_read: "The message of another: the model reads it and does not learn to write it.",
  why_untrained: "An answer that is not trained here: its weight is 0, or it belongs to the prompt of this example.",
  why_variables: "Tools or variables of the template: the model only reads them.", why_left_out: "The example is left out, so nothing of it counts in the loss.",
};

// Puts values into a text: {name}; numbers with commas.
function worded(text, values = {}) {
  return text.replace(/\{(\w+)\}/g, (whole, key) => { const value = values[key]; return value === undefined ? whole : typeof value === "number" ? value.toLocaleString("en") : value; });
}

// The card of one token; one for all views of a page.
class TokenCard {
  constructor(card, words = EXAMPLE_WORDS) {
    this.card = card; this.words = words;
    [this.text, this.facts, this.why] = ["card-text", "card-facts", "card-why"].map((id) => document.getElementById(id));
  }

  show(span, token) {
    const { words } = this, { example } = token, leftOut = ExampleView.isLeftOut(example);
    const role = token.message === null || token.message < 0 ? null : example.roles[token.message];
    const message = token.message === null ? words.of_template : role === null ? words.of_variables : worded(words.of_message, { number: String(token.message + 1), role });
    this.text.textContent = JSON.stringify(token.text).replace(/[\u007f-\u009f\u00a0\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g, name);
    const weight = token.weight > 0 ? worded(leftOut ? words.not_counted : words.trained, { weight: String(token.weight) }) : words.read;
    const facts = [[words.id, token.id], [words.weight, weight], [words.message, message], [words.field, token.field === null ? words.no_field : token.field], [words.position, token.position]];
    if (example.side && token.weight > 0) facts.push([words.answer, example.answer]);
    this.facts.replaceChildren(...facts.flatMap(([word, value]) => [make("dt", "", word), make("dd", "", String(value))]));
    this.why.textContent = this.reason(token, role);
    this.card.hidden = false;
    this.place(span);
  }

  // Why a token has its weight; the rule itself is in encoding/weights.py.
  reason(token, role) {
    const { words } = this, { example } = token;
    if (token.weight > 0) {
      if (ExampleView.isLeftOut(example)) return words.why_left_out;
      const first = example.side === "rejected" ? words.why_rejected : token.message === null ? words.why_ending : words.why_answer;
      return first + (token.weight === 1 ? "" : words.why_weight);
    }
    if (token.message === null) return words.why_template;
    if (role === null) return words.why_variables;
    return role === "assistant" ? words.why_untrained : words.why_read;
  }

  place(span) {
    const box = span.getClientRects()[0], { card } = this;
    const left = Math.min(box.left + scrollX, scrollX + document.documentElement.clientWidth - card.offsetWidth - 12);
    const below = box.bottom + card.offsetHeight + 16 < innerHeight;
    card.style.left = `${Math.max(8, left)}px`;
    card.style.top = `${below ? box.bottom + scrollY + 8 : box.top + scrollY - card.offsetHeight - 8}px`;
  }

  hide() { this.card.hidden = true; }
}

// One row's examples in one element.
class ExampleView {
  constructor(pane, { pieces, fields, card, words = EXAMPLE_WORDS, most }) {
    Object.assign(this, { pane, pieces, fields, card, words, most, shown: [] });
    pane.view = this;
    if (pane.hasListeners) return;
    pane.hasListeners = true;
    const token = (span) => pane.view.shown[Number(span.dataset.index)];
    pane.addEventListener("mouseover", (event) => { const span = event.target.closest(".token"); if (span) card.show(span, token(span)); });
    pane.addEventListener("mouseleave", () => { const held = document.activeElement.closest(".token"); if (held && pane.contains(held)) card.show(held, token(held)); else card.hide(); });
    pane.addEventListener("focusin", (event) => { const span = event.target.closest(".token"); if (span) card.show(span, token(span)); });
    pane.addEventListener("focusout", () => card.hide());
  }

  static isPair(part) { return part.examples.length > 1; }
  static isLeftOut(example) { return example.limit !== null || Boolean(example.leftOut); }
  static numTrained(tokens) { return tokens.filter((token) => token.weight > 0).length; }

  // What is shown as one: both sides of a pair, or an example alone.
  static partsOf(row) {
    const pairs = new Map(row.pairs || []), parts = [];
    for (let at = 0; at < row.examples.length; at += parts.at(-1).examples.length)
      parts.push({ examples: row.examples.slice(at, pairs.has(at) ? at + 2 : at + 1), common: pairs.get(at) });
    return parts;
  }

  partName(part, index, count) { return worded(ExampleView.isPair(part) ? this.words.pair : this.words.example, { number: index + 1, count }); }

  tokensOf(example) {
    const tokens = [];
    let at = 0;
    for (const [count, weight, message, field] of example.runs)
      for (let end = at + count; at < end; at += 1) {
        const [id, text] = this.pieces[example.tokens[at]];
        tokens.push({ id, text, weight, message, field: field === null ? null : this.fields[field], position: at, example });
      }
    return tokens;
  }

  // Draws a part; returns its counts in words, and the number of tokens that are not drawn.
  draw(part) {
    this.pane.replaceChildren();
    this.shown = [];
    const { examples } = part, tokens = examples.map((example) => this.tokensOf(example));
    let left, counts;
    if (ExampleView.isPair(part)) [left, counts] = this.drawPair(examples, tokens, part.common);
    else {
      counts = (examples[0].answer ? `${examples[0].answer} · ` : "") + this.countsOf(examples[0], tokens[0]);
      left = this.drawRange(this.pane, examples[0], tokens[0], 0, tokens[0].length);
    }
    const first = this.pane.querySelector(".token");
    if (first) first.tabIndex = 0;
    return { counts, left };
  }

  restWords(left, next) { return worded(this.words.rest, { next: Math.min(left, next), left }); }

  countsOf(example, tokens) {
    const { words } = this, count = tokens.length;
    if (example.limit !== null) return worded(words.over_limit, { count, limit: example.limit });
    if (example.leftOut) return worded(words.left_out, { count, reason: example.leftOut });
    const trained = ExampleView.numTrained(tokens);
    const share = tokens.length ? Math.round((100 * trained) / tokens.length) : 0;
    return worded(words.counts, { count, trained, share }) + this.shortened(example);
  }

  shortened(example) { return example.shortened ? worded(this.words.shortened, { how: example.shortened }) : ""; }

  // The prompt that both sides share once, then both answers beside each other.
  drawPair(examples, tokens, common) {
    const { words } = this, leftOut = examples.some(ExampleView.isLeftOut);
    const reason = examples[0].limit !== null ? words.too_long : examples[0].leftOut;
    const counts = (leftOut ? worded(words.pair_left_out, { reason }) : "") + worded(words.common, { count: common });
    let left = this.drawRange(this.pane, examples[0], tokens[0], 0, common);
    const sides = make("div", "sides");
    examples.forEach((example, index) => {
      const side = make("div", `side ${example.side}`);
      side.setAttribute("role", "group");
      side.setAttribute("aria-label", example.side);
      const count = tokens[index].length;
      const trained = leftOut ? worded(words.side_none, { count }) : worded(words.side_counts, { trained: ExampleView.numTrained(tokens[index]), count });
      const head = make("p", "head");
      head.append(make("b", "", example.side), make("span", "facts", ` ${trained}${this.shortened(example)}`));
      side.append(head);
      left += this.drawRange(side, example, tokens[index], common, tokens[index].length);
      sides.append(side);
    });
    this.pane.append(sides);
    return [left, counts];
  }

  // Draws the blocks of an example from one token to another, at most as many tokens as are shown at once.
  drawRange(place, example, tokens, from, to) {
    const last = Math.min(to, from + this.most);
    example.blocks.forEach(([begins, who], number) => {
      const start = Math.max(begins, from);
      const end = Math.min(number + 1 < example.blocks.length ? example.blocks[number + 1][0] : tokens.length, last);
      if (start >= end) return;
      const block = make("div", `block ${who.split(" ").pop()}`);
      const text = make("div", "text");
      for (let index = start; index < end; index += 1) {
        if (index === example.limit) text.append(make("span", "limit", worded(this.words.limit, { limit: example.limit })));
        text.append(this.drawToken(tokens, index));
      }
      block.append(make("div", "who", who), text);
      place.append(block);
    });
    return to - last;
  }

  drawToken(tokens, index) {
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
    span.dataset.index = this.shown.length;
    this.shown.push(token);
    span.tabIndex = -1;
    span.setAttribute("aria-describedby", "card");
    write(span, token.text);
    return span;
  }

  focus(index) {
    const spans = this.pane.querySelectorAll(".token");
    const span = spans[Math.min(Math.max(index, 0), spans.length - 1)];
    if (!span) return;
    const before = this.pane.querySelector('[tabindex="0"]');
    if (before) before.tabIndex = -1;
    span.tabIndex = 0;
    span.focus();
  }

  nextTrained(index) {
    const next = [...this.pane.querySelectorAll(".token")].findIndex((span, at) => at > index && span.classList.contains("run-start"));
    if (next >= 0) this.focus(next);
  }

  // What keys do while a token has the focus.
  keys(span) {
    const index = Number(span.dataset.index);
    return {
      ArrowRight: () => this.focus(index + 1), ArrowLeft: () => this.focus(index - 1),
      Home: () => this.focus(0), End: () => this.focus(Infinity), t: () => this.nextTrained(index), Escape: () => span.blur(), Enter: () => {},
    };
  }
}
