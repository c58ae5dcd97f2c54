"""Rows that a chat template has rendered already: read back into messages, or refused, never trained as pieces."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.encoding.both_ways import in_batches, one_by_one
from tests.inspection.small_chat import other_template, small_chat

from instil.conversation import Conversation, Message, PartWeight, Place, ToolCall
from instil.data import read as read_conversations
from instil.data.formats.registry import read_row
from instil.data.formats.row_format import ReadOptions
from instil.data.messages import message_to_dict
from instil.errors import EncodingError
from instil.generation.prompts import as_messages, read_prompts
from instil.inspection.inspection import Inspection
from instil.preparation.prepare import prepare
from instil.recipe import Recipe
from instil.template.library import named_templates
from instil.template.read_back import readable
from instil.template.rendered_headers import MORE_TEMPLATES

SYSTEM = Message("system", "Answer in one word.\nAlways.")
CHAT = (
    Message("user", "Largest lake\n\nof Peru?"),
    Message("assistant", "**Titicaca**\n- really"),
    Message("user", "Longest river?"),
    Message("assistant", "Ucayali"),
)
NO_SYSTEM_OF_ITS_OWN = {"gemma", "mistral"}
"""Their system text is a part of the question."""
NO_SYSTEM = {"guanaco", "guanaco-lines", "human-assistant"}
CHATML = readable("chatml", "</s>").template


def _read(row: Any) -> Conversation:
    _, (conversation,) = read_row(row, Place("rows.jsonl", 1), format_name="auto", options=ReadOptions())
    return conversation


def _back(row: Any, chat: Any = None) -> Conversation:
    """Return the messages of a row, or the row itself if it is not taken for rendered text."""
    return (chat or small_chat()).read_rendered(_read(row))[0]


def _plain(conversation: Conversation) -> list[tuple[str, Any]]:
    return [(message.role, message.content) for message in conversation.messages]


def _trained(row: Any, chat: Any = None) -> str:
    chat = chat or small_chat()
    return "".join(
        chat.decode([token for token, weight in zip(example.token_ids, example.weights, strict=True) if weight > 0])
        for example in chat.encode(_read(row))
    )


@pytest.mark.parametrize("name", [*named_templates(), *MORE_TEMPLATES])
@pytest.mark.parametrize("with_system", [False, True], ids=["", "system"])
@pytest.mark.parametrize("turns", [2, 4])
def test_text_of_every_known_template_is_read_back_and_only_answers_are_trained(name, with_system, turns):
    if with_system and name in NO_SYSTEM:
        return
    messages = ((SYSTEM,) if with_system else ()) + CHAT[:turns]
    text = readable(name, "</s>").template.render_text(messages)
    read = _back({"text": text, "id": 7})
    if name == "mistral" and with_system:  # printed only before an answer is asked for
        messages = messages[1:]
    elif name in NO_SYSTEM_OF_ITS_OWN and with_system:
        messages = (Message("user", f"{SYSTEM.content}\n\n{CHAT[0].content}"), *messages[2:])
    if name != "guanaco-lines":  # its line breaks may be the texts' own
        assert _plain(read) == [(message.role, message.content) for message in messages]
    assert read.extra == {"id": 7}
    answers = [message for message in messages if message.role == "assistant"]
    assert _trained({"text": text}) == "".join(f"{message.content}<|im_end|>" for message in answers)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "<s>" + text,
        lambda text: text.rstrip("\n"),
        lambda text: text + "\n\n",
        lambda text: text.removesuffix("<|im_end|>\n"),  # the demo's end-of-text token
        lambda text: text + "<|endoftext|>",
        lambda text: text + "</s>\n",
    ],
    ids=["begins with BOS", "no line break", "more line breaks", "no end of text", "end of text", "another end"],
)
def test_what_other_tools_add_or_leave_out_at_the_ends_does_not_matter(change):
    assert _plain(_back({"text": change(CHATML.render_text(CHAT))})) == [(m.role, m.content) for m in CHAT]


def test_prompt_and_completion_train_the_completion_alone():
    prompt = CHATML.render_text(CHAT[:3], add_generation_prompt=True)
    for completion in ("Ucayali", "Ucayali<|im_end|>", "Ucayali<|im_end|>\n"):
        for row in (
            {"prompt": prompt, "completion": completion},
            {"instruction": prompt, "input": "", "output": completion},
            {"question": prompt, "answer": completion},
            {"messages": [{"role": "user", "content": prompt}, {"role": "assistant", "content": completion}]},
        ):
            assert _trained(row) == "Ucayali<|im_end|>", row
    plain = {"prompt": prompt, "completion": "Ucayali", "plain": True}
    assert [message.weight for message in _back(plain).messages] == [None, 0.0, None, None]


def test_headers_in_the_completion_and_answers_begun_in_the_prompt():
    question = {"prompt": "Longest river?", "completion": "<|im_start|>assistant\nUcayali<|im_end|>"}
    assert _plain(_back(question)) == [("user", "Longest river?"), ("assistant", "Ucayali")]
    halves = {"prompt": CHATML.render_text(CHAT[:1]), "completion": "<|im_start|>assistant\nTiticaca<|im_end|>\n"}
    assert _trained(halves) == "Titicaca<|im_end|>"
    begun = {"prompt": CHATML.render_text(CHAT[:1], add_generation_prompt=True) + "Lake ", "completion": "Titicaca"}
    assert _back(begun).messages[-1] == Message(
        "assistant", "Lake Titicaca", part_weights=(PartWeight("content", 0, 5, 0.0),)
    )
    assert _trained(begun) == " Titicaca<|im_end|>"


def test_one_message_that_holds_the_whole_chat_is_read_back():
    text = CHATML.render_text(CHAT)
    for role in ("user", "assistant"):
        assert _plain(_back({"messages": [{"role": role, "content": text}]})) == [(m.role, m.content) for m in CHAT]


def test_the_models_own_template_is_read_back_whatever_its_headers():
    own = other_template(
        "{% for m in messages %}<|im_start|>~{{ m.role[0] }}: {{ m.content }}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>~a: {% endif %}"
    )
    text = own.template.render_text(CHAT)
    assert "<|im_start|>~u: Largest" in text
    assert _trained({"text": text}, own) == "**Titicaca**\n- really<|im_end|>Ucayali<|im_end|>"


def test_the_models_own_headers_may_be_words_and_then_only_an_exact_text_is_read():
    own = other_template(
        "{% for m in messages %}{{ m.role | capitalize }}: {{ m.content }}{% if m.role == 'assistant' %}<|im_end|>"
        "{% endif %}{{ '\n' }}{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
    )
    assert _trained({"text": own.template.render_text(CHAT)}, own).count("<|im_end|>") == 2
    assert own.read_rendered(_read({"text": "Of User: and Assistant: alike."}))[1] is None


def test_alpaca_as_published_has_its_input_behind_the_instruction_and_any_end_of_text():
    text = "Below is an instruction that describes a task.\n\n### Instruction:\nAdd.\n\n### Input:\n1 2\n\n### Response:\n3"
    for ending in ("", "</s>", "<|endoftext|>", "<|end_of_text|>"):
        read = _back({"text": text + ending})
        assert _plain(read)[1:] == [("user", "Add.\n1 2"), ("assistant", "3")]
    assert _plain(_back({"text": text.replace("1 2", "")}))[1] == ("user", "Add.")


def test_a_date_in_the_text_becomes_a_variable_so_that_it_is_trained_as_it_was():
    template = readable("llama-3.1", "</s>").template
    text = template.render_text(CHAT[:2], variables={"date_string": "03 Mar 2025"})
    read = _back({"text": text})
    assert read.variables == {"date_string": "03 Mar 2025"}
    assert template.render_text(read.messages, variables=read.variables) == text


UNREADABLE = [
    {"text": "<|im_start|>tool\n4<|im_end|>\n<|im_start|>assistant\nFour.<|im_end|>\n"},
    {"text": "<|im_start|>user\nHi\n<|im_start|>assistant\nHo\n"},
    {
        "text": "Notes: <|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>"
    },
    {"text": "<|im_start|>system\n# Tools\n<tools>[]</tools><|im_end|>\n" + CHATML.render_text(CHAT)},
    {"text": CHATML.render_text(CHAT), "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]},
    {"text": "<|start|>user<|message|>Hi<|end|><|start|>assistant<|channel|>final<|message|>Ho<|return|>"},
    {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": CHATML.render_text(CHAT[:1], add_generation_prompt=True)},
            {"role": "assistant", "content": "Titicaca"},
        ]
    },
    {"prompt": CHATML.render_text(CHAT), "completion": ""},
]


@pytest.mark.parametrize("row", UNREADABLE, ids=range(len(UNREADABLE)))
def test_what_cannot_be_read_back_exactly_is_refused_with_the_setting_that_accepts_it(row):
    with pytest.raises(EncodingError, match=r"rows.jsonl:1: is already rendered .* set data.rendered_rows: keep"):
        small_chat().encode(_read(row))
    assert small_chat(rendered_rows="keep").encode(_read(row)) is not None


LOOK = {"type": "function", "function": {"name": "look", "description": "Weather.", "parameters": {"type": "object"}}}
FIND = {"type": "function", "function": {"name": "find", "parameters": {"type": "object", "properties": {}}}}
ASKED, WET = Message("user", "Weather in Lima?"), Message("assistant", "Wet.")
CALL = Message("assistant", None, tool_calls=(ToolCall("look", {"city": "Lima", "days": 1.5, "é": ["ü"]}),))
TWO_CALLS = Message("assistant", "I look.\n\nTwice.", tool_calls=(*CALL.tool_calls, ToolCall("find", {})))
RESULT = Message("tool", 'wet "and" cold\n3°')
WITH_CALLS: dict[str, tuple[Message, ...]] = {
    "a call": (ASKED, CALL),
    "a call and its result": (SYSTEM, ASKED, CALL, RESULT, WET),
    "several": (ASKED, TWO_CALLS, RESULT, Message("tool", "3"), WET, ASKED, CALL, RESULT, WET, ASKED, WET),
}


def _same(read: Conversation, messages: tuple[Message, ...]) -> bool:
    parts = [[(one.role, one.content, one.tool_calls) for one in every] for every in (read.messages, messages)]
    return parts[0] == parts[1]


@pytest.mark.parametrize("tools", [(LOOK, FIND), ()], ids=["tools", "no tools"])
@pytest.mark.parametrize("name", WITH_CALLS)
def test_calls_results_and_definitions_in_the_text_are_read_back(name: str, tools: Any, tmp_path: Path) -> None:
    messages = WITH_CALLS[name]
    text = CHATML.render_text(messages, tools=tools)
    row = {"text": text, "id": 7}
    read = _back(row)
    assert _same(read, messages)
    assert (read.tools, read.extra, read.plain) == (tools, {"id": 7}, False)
    plain = {"messages": [message_to_dict(one) for one in messages], "tools": list(tools)}
    chat = small_chat()
    for rendered, written in zip(chat.encode(_read(row)), chat.encode(_read(plain)), strict=True):
        assert rendered.token_ids == written.token_ids
        assert rendered.weights == written.weights
    assert "<tool_call>" in _trained(row)
    assert "wet" not in _trained(row)


def test_a_call_of_llama_is_trained_as_the_models_own_template_writes_it() -> None:
    llama = readable("llama-3.1", "</s>").template
    messages = WITH_CALLS["a call and its result"]
    read = _back({"text": llama.render_text(messages, tools=(LOOK,), variables={"date_string": "03 Mar 2025"})})
    assert _same(read, messages)
    assert read.tools == (LOOK,)
    trained = _trained({"text": llama.render_text(messages, tools=(LOOK,))})
    assert trained.startswith('<tool_call>\n{"name": "look", "arguments": {"city": "Lima"')


def test_a_prompt_with_calls_and_a_completion_train_the_completion_alone() -> None:
    messages = WITH_CALLS["a call and its result"]
    prompt = CHATML.render_text(messages[:-1], tools=(LOOK,), add_generation_prompt=True)
    row = {"prompt": prompt, "completion": "Wet."}
    assert _same(_back(row), messages)
    assert _trained(row) == "Wet.<|im_end|>"
    prompt = CHATML.render_text(messages[:2], tools=(LOOK,), add_generation_prompt=True)
    call = CHATML.render_text((ASKED, CALL)).partition("assistant\n")[2]
    assert _same(_back({"prompt": prompt, "completion": call}), messages[:3])
    split = {"prompt": prompt + call[:20], "completion": call[20:]}
    with pytest.raises(EncodingError, match="cannot be read back into messages exactly"):
        _back(split)
    answer = {"prompt": ASKED.content, "completion": "<|im_start|>assistant\n" + call}
    assert _same(_back(answer), (ASKED, CALL))


def test_tools_beside_the_text_have_to_be_the_texts_own() -> None:
    row = {"text": CHATML.render_text(WITH_CALLS["a call"], tools=(LOOK,))}
    assert _back({**row, "tools": [LOOK]}).tools == (LOOK,)
    with pytest.raises(EncodingError, match="there are tools beside it"):
        _back({**row, "tools": [FIND]})


NOT_EXACT = {
    "keys in another order": (
        '{"name": "look", "arguments": {"city": "Lima", "days": 1.5, "é": ["ü"]}}',
        '{"arguments": {"city": "Lima", "days": 1.5, "é": ["ü"]}, "name": "look"}',
    ),
    "other spaces": ('"city": "Lima"', '"city":"Lima"'),
    "text behind the call": ("</tool_call>", "</tool_call>\nI wait."),
    "a call that does not end": ("\n</tool_call>", ""),
    "a broken definition": ('"description": "Weather."', '"description": Weather'),
}


@pytest.mark.parametrize("name", NOT_EXACT)
def test_calls_that_would_be_written_otherwise_are_refused(name: str) -> None:
    old, new = NOT_EXACT[name]
    text = CHATML.render_text(WITH_CALLS["a call and its result"], tools=(LOOK,))
    assert old in text
    with pytest.raises(EncodingError, match="cannot be read back into messages exactly"):
        _back({"text": text.replace(old, new)})


def test_a_question_that_looks_like_a_result_of_a_template_without_tools_stays_a_question() -> None:
    own = other_template(
        "{% for m in messages %}<|im_start|>{{ 'user' if m.role == 'tool' else m.role }}\n{{ m.content }}<|im_end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    assert [message.role for message in _back({"text": CHATML.render_text(CHAT)}, own).messages] == [
        m.role for m in CHAT
    ]


def test_fix_and_convert_of_the_fixed_file_keep_the_calls(tmp_path: Path) -> None:
    path, fixed = tmp_path / "rows.jsonl", tmp_path / "fixed.jsonl"
    text = CHATML.render_text(WITH_CALLS["several"], tools=(LOOK, FIND))
    path.write_text(json.dumps({"text": text}) + "\n")
    list(Inspection.of(str(path), _recipe(path)).fix(fixed))
    (conversation,) = read_conversations(fixed)
    assert CHATML.render_text(conversation.messages, tools=conversation.tools) == text


ORDINARY = [
    {"text": "The header <|im_start|>user begins a turn of the user."},
    {"text": "USER: means the customer. ASSISTANT: means the agent."},
    {"text": "# Title\n\n### Instruction manual\n\n### Response times"},
    {"text": "if a[|x|]: print('[INST]')"},
    {"messages": [{"role": "user", "content": "What is <|im_start|>user and <|im_start|>assistant?"}, {"role": "assistant", "content": "Headers."}]},
    {"prompt": "Explain [INST] and [/INST].", "completion": "They are headers of Llama 2: [INST] Hi [/INST]."},
]  # fmt: skip


@pytest.mark.parametrize("row", ORDINARY, ids=range(len(ORDINARY)))
def test_texts_about_headers_stay_as_they_are(row):
    chat = small_chat()
    before = _read(row)
    assert chat.read_rendered(before) == (before, None)
    assert len(chat.encode(before)) == 1


def test_both_ways_of_encoding_agree_and_refuse_says_where():
    rows: list[Any] = [
        _read({"text": CHATML.render_text(CHAT)}),
        _read({"messages": [{"role": one.role, "content": one.content} for one in CHAT]}),
    ]
    chat = small_chat()
    (rendered,), (messages,) = in_batches(chat, rows)
    assert (list(rendered.token_ids), list(rendered.weights)) == (list(messages.token_ids), list(messages.weights))
    read = [chat.read_rendered(row)[0] for row in rows]
    assert in_batches(chat, read) == one_by_one(chat, read)
    with pytest.raises(EncodingError, match=r"rows.jsonl:1: .*data.rendered_rows is refuse"):
        small_chat(rendered_rows="refuse").encode(rows[0])


def test_what_people_type_into_a_chat_stays_text():
    chat = small_chat()
    typed = CHATML.render_text(CHAT)
    prompt = chat.prompt([{"role": "user", "content": typed}])
    assert prompt.count(chat.stop_ids[0]) == 1


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    rows = [{"text": readable(name, "</s>").template.render_text(CHAT)} for name in ("chatml", "llama-2", "zephyr")]
    rows += [UNREADABLE[0], {"messages": [{"role": "user", "content": rows[0]["text"]}]}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def _recipe(file: Path, **data: Any) -> Recipe:
    store = str(file.parent / "store")
    return Recipe.from_mapping({"data": {"sources": [str(file)], "store": store, **data}}, source="test")


def test_inspect_counts_them_with_places_and_fix_writes_the_messages(file, tmp_path):
    inspection = Inspection.of(str(file), _recipe(file))
    survey = inspection.survey()
    assert survey.findings.counts["read_back"] == 4
    assert [finding.place.row for finding in survey.findings.of_kind("rendered")] == [4]
    assert survey.ledger.rows_trained == 4
    assert {name: tally.count for name, tally in survey.ledger.rendered.items()} == {
        "the model's own template": 2,
        "llama-2": 1,
        "zephyr": 1,
    }
    assert any("text rendered with llama-2" in line for line in survey.ledger.lines())
    fixed = tmp_path / "fixed.jsonl"
    *_, done = inspection.fix(fixed)
    rows = [json.loads(line) for line in fixed.read_text().splitlines()]
    assert rows[0] == {"messages": [{"role": one.role, "content": one.content} for one in CHAT]}
    assert rows[-1] == UNREADABLE[0]
    assert (done.changed, done.left_out) == (1, 3)  # the other rows are the same conversation


def test_preparing_stops_at_the_first_that_cannot_be_read_or_leaves_it_out_and_holds_out_messages(file):
    chat = small_chat(max_tokens=512)
    with pytest.raises(EncodingError, match=r"rows.jsonl:4: is already rendered"):
        prepare(_recipe(file), chat)
    prepared = prepare(_recipe(file, on_bad_row="skip", heldout_share=0.9), chat)
    tally = prepared.ledger.left_out.get("already rendered") or prepared.heldout_ledger.left_out["already rendered"]
    assert tally.count == 1
    assert prepared.heldout_conversations
    for conversation in prepared.heldout_conversations:
        assert _plain(conversation)[-1] == ("assistant", "Ucayali")


def test_prompts_of_generate_and_evaluate_are_read_back(tmp_path):
    path = tmp_path / "prompts.jsonl"
    rows = [
        {"prompt": CHATML.render_text(CHAT[:1], add_generation_prompt=True)},
        {"text": CHATML.render_text(CHAT)},
        {"prompt": "Longest river?"},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    chat = small_chat()
    prompts = as_messages(read_prompts(path), chat)
    assert [len(prompt.conversation.messages) for prompt in prompts] == [1, 3, 1]
    assert [prompt.reference_text for prompt in prompts] == [None, "Ucayali", None]
    assert prompts[0].conversation.messages[0].content == CHAT[0].content
    with pytest.raises(EncodingError, match="is refuse"):
        as_messages(read_prompts(path), chat, policy="refuse")
    assert [len(one.conversation.messages) for one in as_messages(read_prompts(path), chat, policy="keep")] == [1, 1, 1]
