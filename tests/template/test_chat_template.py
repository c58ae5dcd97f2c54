"""A chat template renders as transformers renders it, and says where every character comes from."""

from __future__ import annotations

import json
import random
import re
from functools import cache

import pytest
from tests.corpus import corpus_path, needs_corpus
from tests.template.reasoning_names import aliased
from transformers.utils.chat_template_utils import render_jinja_template

from instil.conversation import Message, ToolCall
from instil.errors import TemplateError
from instil.template.chat_template import ChatTemplate

TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": 'The "weather"\nof a city',
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CALL = {
    "id": "abcdef123",
    "type": "function",
    "function": {"name": "weather", "arguments": {"city": "Hà Nội", "days": 2}},
}
CONVERSATIONS = {
    "two turns": [("user", "one"), ("assistant", "ANSWER <b>"), ("user", "two"), ("assistant", "second & last")],
    "system": [("system", "RULES be brief"), ("user", "one"), ("assistant", "done"), ("user", "two")],
    "white space": [
        ("user", "  one \n"),
        ("assistant", "\n line\n\n\tline  "),
        ("user", "tw\u2028o"),
        ("assistant", "ok\n"),
    ],
    "scripts": [("user", "天空为什么是蓝色的？"), ("assistant", "🌈 ßŉİ"), ("user", "e\u0301"), ("assistant", "Vâng")],
    "quotes": [("user", "\"'\\n{{ x }}{% y %}"), ("assistant", "[[1, 2]] </think> #} %s {0}")],
    "empty": [("user", ""), ("assistant", "")],
    "markers": [("user", "<|im_end|>\n<|im_start|>assistant\n"), ("assistant", "[/INST] </s> <start_of_turn>")],
}


def dicts(turns) -> list[dict]:
    return [{"role": role, "content": content} for role, content in turns]


REASONING = [
    {"role": "user", "content": "one"},
    {"role": "assistant", "content": "ANSWER", "reasoning_content": "THOUGHT\n one"},
    {"role": "user", "content": "two"},
    {"role": "assistant", "content": "last", "reasoning_content": "THOUGHT two"},
]
TOOLS = [
    {"role": "user", "content": "one"},
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "abcdef123", "name": "weather", "content": "RESULT sunny"},
    {"role": "assistant", "content": "It is sunny"},
]
CASES = [(name, dicts(turns), None) for name, turns in CONVERSATIONS.items()]
CASES += [
    ("reasoning", REASONING, None),
    ("tools", TOOLS, [TOOL]),
    ("unused tools", dicts(CONVERSATIONS["system"]), [TOOL]),
]


def record(given: dict) -> Message:
    content = given.get("content")
    return Message(
        given["role"],
        tuple(content) if isinstance(content, list) else content,
        reasoning=given.get("reasoning_content"),
        reasoning_name="reasoning_content",
        tool_calls=tuple(
            ToolCall(call["function"]["name"], call["function"]["arguments"], call.get("id"))
            for call in given.get("tool_calls", ())
        ),
        tool_call_id=given.get("tool_call_id"),
        name=given.get("name"),
    )


def field_text(given: dict, field: str) -> str:
    """Find the string that a field names in a message dictionary."""
    if field == "reasoning":
        return given["reasoning_content"]
    value, keys = given, field.split(".")
    if keys[0] == "tool_calls":
        value, keys = given["tool_calls"][int(keys[1])], keys[2:]
        value = value if keys[0] == "id" else value["function"]
    if keys[-1] == "key":
        return keys[-2]
    for key in keys:
        value = value[int(key)] if isinstance(value, list) else value[key]
    return value


@cache
def corpus() -> list[dict]:
    return json.loads((corpus_path() / "templates" / "index.json").read_text())


def load(entry: dict) -> tuple[str, dict[str, str]]:
    source = (corpus_path() / "templates" / entry["file"]).read_text(encoding="utf-8")
    return source, {key: entry[key] for key in ("bos_token", "eos_token") if entry.get(key)}


def theirs(source, messages, tools, tokens, add_generation_prompt) -> str | None:
    try:
        texts, _ = render_jinja_template(
            [aliased(messages)],
            tools=tools,
            chat_template=source,
            add_generation_prompt=add_generation_prompt,
            **tokens,
        )
    except Exception:
        return None
    return texts[0]


@pytest.mark.slow
@needs_corpus(411 * len(CASES))
@pytest.mark.parametrize(
    "every", [pytest.param(1, marks=pytest.mark.long, id="all templates"), pytest.param(9, id="every ninth template")]
)
def test_every_template_renders_as_transformers_does_and_every_segment_is_true(every):
    """Where transformers refuses a shape of input or prints none of it, another shape may be given: counted, few."""
    same = refused = adapted = located = contents = altered = 0
    for entry in corpus()[::every]:
        source, tokens = load(entry)
        try:
            template = ChatTemplate(source, special_tokens=tokens)
        except TemplateError:
            continue
        for name, messages, tools in CASES:
            for prompt in (False, True):
                expected = theirs(source, messages, tools, tokens, prompt)
                records = [record(given) for given in messages]
                try:
                    rendering = template.render(records, tools=tools or (), add_generation_prompt=prompt)
                except TemplateError:
                    assert expected is None, (entry["file"], name)
                    refused += 1
                    continue
                if expected is None or template.shape.content == "parts":
                    adapted += 1
                else:
                    assert rendering.text == expected, (entry["file"], name)
                    same += 1
                assert "".join(rendering.text[a:b] for a, b, _ in rendering.segments) == rendering.text
                for start, stop, origin in rendering.segments:
                    if origin is None or origin.message < 0 or template.shape.arguments == "text":
                        continue
                    text = field_text(messages[origin.message], origin.field)
                    printed = rendering.text[start:stop]
                    claimed = text[origin.start : origin.start + stop - start]
                    assert printed == claimed or stop - start == 1 or printed.lower() == claimed.lower(), (
                        entry["file"],
                        name,
                    )
                if prompt:
                    continue
                for index, given in enumerate(messages):
                    if given["content"].strip():
                        contents += 1
                        found = "".join(rendering.text[a:b] for a, b in rendering.spans(index, "content"))
                        located += given["content"].strip() in found
                        altered += given["content"].strip() not in rendering.text
    assert same > 6500 / every
    assert adapted < 0.02 * same
    assert refused < 0.1 * same
    assert located + altered >= 0.999 * contents  # what is printed is located
    assert located > 0.96 * contents


@pytest.mark.slow
@needs_corpus(41)
def test_goldens_of_other_projects_are_met():
    cases = json.loads((corpus_path() / "templates" / "goldens.json").read_text())["cases"]
    met = 0
    for case in cases:
        given = dict(case["kwargs"])
        messages, tools = given.pop("messages"), given.pop("tools", None)
        asked = given.pop("add_generation_prompt", None)  # transformers always hands it over; one template looks for it
        source = case.get("template") or (corpus_path() / "templates" / case["template_file"]).read_text("utf-8")
        template = ChatTemplate(source, special_tokens={}, date="2025-07-10")
        records = [record(message) for message in messages]
        texts = [
            template.render(records, tools=tools or (), variables=given, add_generation_prompt=prompt).text
            for prompt in ([False, True] if asked is None else [asked])
        ]
        assert case["expected"] in texts, case["name"]
        met += 1
    assert met == len(cases) > 30


CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"


def test_refusal_carries_the_template_s_own_reason_and_line():
    source = "{% for m in messages %}\n{% if m.role == 'system' %}\n{{ raise_exception('No system turn here') }}{% endif %}{% endfor %}"
    with pytest.raises(TemplateError, match=r"^mine, line 3: No system turn here$"):
        ChatTemplate(source, special_tokens={}, name="mine").render([Message("system", "x")])


def test_failure_says_what_plain_strings_say():
    template = ChatTemplate("{% for m in messages %}{{ m.content + 1 }}{% endfor %}", special_tokens={})
    with pytest.raises(TemplateError, match=r'can only concatenate str \(not "int"\) to str'):
        template.render([Message("user", "x")])


def test_syntax_error_names_the_line():
    with pytest.raises(TemplateError, match="line 2"):
        ChatTemplate("{% for m in messages %}\n{% endif %}", special_tokens={})


def test_no_tools_are_none():
    template = ChatTemplate("{{ 'none' if tools is none else 'some' }}", special_tokens={})
    assert template.render([Message("user", "x")], tools=()).text == "none"
    assert template.render([Message("user", "x")], tools=[TOOL]).text == "some"


def test_date_is_pinned_and_a_wrong_one_refused():
    source = "{{ strftime_now('%d %B %Y') }}"
    assert (
        ChatTemplate(source, special_tokens={}, date="2024-07-26").render([Message("user", "x")]).text == "26 July 2024"
    )
    assert (
        ChatTemplate(source, special_tokens={}, date="2024-07-26").render_text([Message("user", "x")]) == "26 July 2024"
    )
    with pytest.raises(TemplateError, match="Expected YYYY-MM-DD"):
        ChatTemplate(source, special_tokens={}, date="26 July")


def test_tools_and_documents_have_origins_of_their_own():
    template = ChatTemplate("{{ tools|tojson }}{% for d in documents %}{{ d.text }}{% endfor %}", special_tokens={})
    rendering = template.render([Message("user", "x")], tools=[TOOL], variables={"documents": [{"text": "DOC"}]})
    found = {origin.field: rendering.text[a:b] for a, b, origin in rendering.segments if origin}
    assert found["variables.documents.0.text"] == "DOC"
    assert found["tools.0.function.name"] == "weather"
    assert rendering.spans(-1, "tools")


def test_variables_win_over_special_tokens():
    template = ChatTemplate("{{ bos_token }}{{ enable_thinking }}", special_tokens={"bos_token": "<s>"})
    assert template.render([Message("user", "x")], variables={"enable_thinking": False}).text == "<s>False"
    assert template.render([Message("user", "x")], variables={"bos_token": "!"}).text == "!"


def test_fingerprint_is_the_source_s():
    assert (
        ChatTemplate(CHATML, special_tokens={}).fingerprint
        == ChatTemplate(CHATML, special_tokens={}, date="2024-01-01").fingerprint
    )
    assert (
        ChatTemplate(CHATML + " ", special_tokens={}).fingerprint != ChatTemplate(CHATML, special_tokens={}).fingerprint
    )


PIECES = [
    "one",
    " two\n",
    "<think>\nx\n</think>\n\ny",
    "<|im_end|>",
    "'q\"",
    '{"a": 1}',
    "四🌈",
    "[INST]",
    "<b>&amp;",
    "\n\n",
    "%s {0} {{x}}",
]
VARIABLES = [
    {}, {}, {"enable_thinking": False}, {"thinking": True}, {"documents": [{"title": "T", "text": "doc"}]}, {"reasoning_effort": "high"},
    {"builtin_tools": ["weather"]}, {"tools_in_user_message": False}, {"preserve_thinking": True},
]  # fmt: skip


def random_conversation(rng: random.Random) -> list[Message]:
    """Make up a conversation; every text holds a word that no other text holds."""
    words = iter(range(1000))

    def text() -> str:
        return "".join(
            [
                *rng.choices(PIECES, k=rng.randint(0, 2)),
                f"word{next(words):03}q",
                *rng.choices(PIECES, k=rng.randint(0, 1)),
            ]
        )

    messages = [Message("system", text())] if rng.random() < 0.5 else []
    for _ in range(rng.randint(1, 3)):
        parts = ({"type": "text", "text": text()}, {"type": "text", "text": text()})
        messages.append(Message("user", text() if rng.random() < 0.8 else parts))
        if rng.random() < 0.4:
            arguments = rng.choice([{}, {"city": text(), "n": 3, "o": {"x": [1.5, None, text()]}}])
            call = ToolCall("weather", arguments, rng.choice(["abcdef123", None]))
            messages.append(
                Message("assistant", rng.choice([None, "", text()]), tool_calls=(call,) * rng.randint(1, 2))
            )
            messages.append(Message("tool", text(), tool_call_id=call.id, name="weather"))
        messages.append(Message("assistant", text(), reasoning=rng.choice([None, None, text()])))
    return messages[: len(messages) - (rng.random() < 0.3)]


@pytest.mark.long
@pytest.mark.slow
@needs_corpus(137 * 4)
def test_random_conversations_are_plain_text_and_every_word_is_located():
    rng = random.Random(20261121)
    rendered = words = 0
    for entry in corpus()[::3]:
        source, tokens = load(entry)
        try:
            template = ChatTemplate(source, special_tokens=tokens)
        except TemplateError:
            continue
        for _ in range(4):
            messages = random_conversation(rng)
            given = {
                "tools": rng.choice([(), (TOOL,)]),
                "variables": rng.choice(VARIABLES),
                "add_generation_prompt": rng.random() < 0.5,
            }
            try:
                expected = template.render_text(messages, **given)
            except TemplateError as error:
                with pytest.raises(TemplateError, match=re.escape(str(error))):
                    template.render(messages, **given)
                continue
            rendering = template.render(messages, **given)
            assert rendering.text == expected, entry["file"]
            rendered += 1
            for index, message in enumerate(messages):
                for field, text in (("content", message.content), ("reasoning", message.reasoning)):
                    word = re.search(r"word\d+q", text) if isinstance(text, str) else None
                    if word and word.group() in expected:
                        spans = [expected[a:b] for a, b in rendering.spans(index, field)]
                        assert any(word.group() in span for span in spans), (entry["file"], field)
                        words += 1
    assert rendered > 270
    assert words > 900
