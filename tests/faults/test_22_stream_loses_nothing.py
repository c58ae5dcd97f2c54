"""A streamed answer and a complete one are the same answer: nothing is lost, and only the request's tools are called."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instil.encoding.turns.call_syntax import READERS
from instil.generation.parsing.answer_parser import MARKUP, AnswerParser
from instil.generation.parsing.complete import message_of, parse_answer

TOOLS = ("find", "time")
FIND = '{"name": "find", "arguments": {"q": "Huế {1}"}}'
CALLS = [
    f"<tool_call>\n{FIND}\n</tool_call>",
    f"[TOOL_CALLS][{FIND}]",
    '[TOOL_CALLS]find[ARGS]{"q": "]"}',
    '[TOOL_CALLS]find[CALL_ID]ab12[ARGS]{"q": 1}',
    f"<|python_tag|>{FIND}",
    "<tool_call>\n<function=find>\n<parameter=q>\nHuế\n</parameter>\n</function>\n</tool_call>",
    "<tool_call>find\n<arg_key>q</arg_key>\n<arg_value>Huế</arg_value>\n</tool_call>",
    '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>find<｜tool▁sep｜>{"q": 1}<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
    '<|tool_calls_section_begin|><|tool_call_begin|>functions.find:0<|tool_call_argument_begin|>{"q": 1}'
    "<|tool_call_end|><|tool_calls_section_end|>",
    '<minimax:tool_call>\n<invoke name="find">\n<parameter name="q">Huế</parameter>\n</invoke>\n</minimax:tool_call>',
    '<|tool_call>call:find{q:<|"|>Huế, {1}<|"|>,n:[1,2.5],deep:{a:true,b:null}}<tool_call|>',
    '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>find\n```json\n{"q": 1}\n```<｜tool▁call▁end｜>'
    "<｜tool▁calls▁end｜>",
    "<tool_call>\n<function=find>\n</function>\n</tool_call>",
    "<|tool_call>call:find{}<tool_call|>",
    '<minimax:tool_call><invoke name="find"></invoke></minimax:tool_call>',
]
SEVERAL = [  # two calls in one block
    f"<tool_call>[{FIND}, {FIND}]</tool_call>",
    "<tool_call><function=find></function><function=find></function></tool_call>",
    f"[TOOL_CALLS][{FIND}, {FIND}]",
    f"<|python_tag|>{FIND}; {FIND}",
    "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>find<｜tool▁sep｜>{}<｜tool▁call▁end｜>\n"
    "<｜tool▁call▁begin｜>find<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    "<|tool_calls_section_begin|><|tool_call_begin|>functions.find:0<|tool_call_argument_begin|>{}<|tool_call_end|>"
    "<|tool_call_begin|>functions.find:1<|tool_call_argument_begin|>{}<|tool_call_end|><|tool_calls_section_end|>",
    '<minimax:tool_call>\n<invoke name="find">\n</invoke>\n<invoke name="find">\n<parameter name="q">1</parameter>\n'
    "</invoke>\n</minimax:tool_call>",
    "<|tool_call>call:find{q:1}<tool_call|><|tool_call>call:find{q:2}<tool_call|>",
    "{FIND};{FIND}".replace("{FIND}", FIND.replace("arguments", "parameters")),
]
CHANNELS = [
    "<|channel|>analysis<|message|>hm<|end|>",
    "<|start|>assistant<|channel|>final<|message|>It is 3.",
    '<|start|>assistant<|channel|>commentary to=functions.find <|constrain|>json<|message|>{"q": 1}<|call|>',
    '<|channel|>commentary to=functions.other <|constrain|>json<|message|>{"q": 1}',
]
PIECES = [*MARKUP, *CALLS, *SEVERAL, *CHANNELS, FIND, FIND.replace("find", "Bob"), *(call[:-7] for call in CALLS)]
FRAGMENTS = st.one_of(
    st.sampled_from(PIECES),
    st.sampled_from([piece.replace("find", "Bob") for piece in CALLS]),
    st.sampled_from(
        [" ", "\n", "\n\n", "{", "}", "[", "]", '"', "\\", ";", "<", ">", ",", "find", "Bob", "call:find{"]
    ),
    st.text(max_size=12),
)
TEXTS = st.lists(FRAGMENTS, max_size=7).map("".join)


def streamed(pieces, **request):
    parser = AnswerParser(**request)
    deltas = [delta for piece in pieces for delta in parser.push(piece)]
    return message_of([*deltas, *parser.finish()])


def without_space(text):
    return "".join(text.split())


def cut(text, places):
    ends = sorted({place % (len(text) + 1) for place in places})
    return [text[start:end] for start, end in zip([0, *ends], [*ends, len(text)], strict=True)]


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(TEXTS, st.lists(st.integers(0, 400), max_size=12), st.booleans(), st.sampled_from([None, (), TOOLS]))
def test_pieces_joined_are_the_complete_answer(text, places, in_reasoning, tools):
    whole = parse_answer(text, in_reasoning=in_reasoning, tools=tools)
    assert streamed(cut(text, places), in_reasoning=in_reasoning, tools=tools) == whole
    assert streamed(text, in_reasoning=in_reasoning, tools=tools) == whole  # character by character
    assert tools is None or {call.name for call in whole.tool_calls} <= set(tools)


def is_within(text, source):
    """Return whether a text's characters stand in the source in this order."""
    characters = iter(source)
    return all(character in characters for character in text)


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(
    TEXTS,
    st.integers(0, 400),
    st.lists(st.integers(0, 400), max_size=8),
    st.booleans(),
    st.sampled_from([None, (), TOOLS]),
)
def test_a_begun_answer_and_its_continuation_are_the_complete_answer(text, place, places, in_reasoning, tools):
    whole = parse_answer(text, in_reasoning=in_reasoning, tools=tools)
    begun, rest = text[: place % (len(text) + 1)], text[place % (len(text) + 1) :]
    answers = []
    for pieces in ([rest], cut(rest, places), rest):
        parser = AnswerParser(in_reasoning=in_reasoning, tools=tools)
        parser.begin(begun)
        deltas = [delta for piece in pieces for delta in parser.push(piece)]
        answers.append(message_of([*deltas, *parser.finish()]))
    assert answers[1:] == answers[:1] * 2
    for own, complete in [
        (answers[0].content or "", whole.content or ""),
        (answers[0].reasoning or "", whole.reasoning or ""),
    ]:
        assert complete.endswith(own)
        assert is_within(own.replace("\n", ""), rest)
        assert is_within(complete[: len(complete) - len(own)].replace("\n", ""), begun)
    calls = answers[0].tool_calls
    assert calls == whole.tool_calls[len(whole.tool_calls) - len(calls) :]


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(TEXTS)
def test_without_tools_only_reasoning_tags_and_channels_leave_the_text(text):
    text = "Answer: " + text
    assert parse_answer(text, tools=()).content == text


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(st.sampled_from([piece.replace("find", "Bob") for piece in CALLS]), st.text(max_size=9)),
                max_size=5).map("".join))  # fmt: skip
def test_what_calls_no_tool_of_the_request_is_kept_to_the_last_character(text):
    text = "Answer: " + text
    message = parse_answer(text, tools=TOOLS)
    assert (message.content, message.tool_calls) == (text, ())


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(st.sampled_from(CALLS), st.text(st.characters(exclude_characters="<[|{;")), ),
                max_size=6))  # fmt: skip
def test_text_around_calls_is_kept(pieces):
    # Only the python tag and unclosed blocks reach beyond one piece; a full stop ends them.
    pieces = ["Answer:", *(f"{piece}." for piece in pieces)]
    message = parse_answer("".join(pieces), tools=TOOLS)
    calls = [piece for piece in pieces if piece[:-1] in CALLS]
    said = "".join("." if piece in calls else piece for piece in pieces)
    assert without_space(message.content) == without_space(said)
    assert len(message.tool_calls) == len(calls)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("place", range(2))
def test_every_syntax_is_read_however_it_is_cut(call, place):
    text = ("", "Wait: ")[place] + call
    for size in range(1, len(text) + 1):
        message = streamed([text[at : at + size] for at in range(0, len(text), size)], tools=TOOLS)
        assert [found.name for found in message.tool_calls] == ["find"]
        assert message.content == (None, "Wait:")[place]
        if size > 6:
            break


@pytest.mark.parametrize("text", SEVERAL)
def test_several_calls_of_a_block_are_read_together_or_not_at_all(text):
    for message in (parse_answer(text, tools=TOOLS), streamed(text, tools=TOOLS)):
        assert ([call.name for call in message.tool_calls], message.content) == (["find", "find"], None)
    half = "Bob".join(text.rsplit("find", 1))
    for message in (parse_answer(half, tools=TOOLS), streamed(half, tools=TOOLS)):
        # A call of a tool that the request does not have stays text, and nothing of the block is lost.
        left = "".join((message.content or "").split())
        assert "Bob" in left
        assert len(message.tool_calls) == 1 or left == "".join(half.split())


def test_every_syntax_is_in_these_lists():
    assert set(READERS) <= {marker for marker in READERS for call in CALLS if call.startswith(marker)}
    assert set(READERS) <= {marker for marker in READERS for calls in SEVERAL if calls.startswith(marker)}


@pytest.mark.parametrize("marker", READERS)
def test_every_marker_may_be_mentioned(marker):
    for text in (
        f"The tag {marker} opens a call.",
        f"{marker}",
        f"{marker} nonsense {{x}}",
        f"{marker}{{",
        f"a {marker}[",
    ):
        for tools in (None, TOOLS, ()):
            assert streamed(text, tools=tools).content == text


ROWS = [  # what the model writes, its content, its calls
    ("Say <tool_call> in XML, then {y}.", "Say <tool_call> in XML, then {y}.", 0),
    ("I write <tool_call>\n{no json}\n</tool_call> so", "I write <tool_call>\n{no json}\n</tool_call> so", 0),
    ('See: <tool_call>\n{"name": "find", "argu', 'See: <tool_call>\n{"name": "find", "argu', 0),
    ("[TOOL_CALLS] rubbish", "[TOOL_CALLS] rubbish", 0),
    ("<|python_tag|>print(2)", "<|python_tag|>print(2)", 0),
    (CALLS[0] + "\nand more text", "and more text", 1),
    ('{"name": "find", "parameters": {"q": 1}}', None, 1),
    ('{"name": "Bob", "arguments": {"age": 3}}', '{"name": "Bob", "arguments": {"age": 3}}', 0),
    ("".join(CHANNELS[:2]), "It is 3.", 0),
    (CHANNELS[3], '{"q": 1}', 0),
    ("In Harmony, <|channel|>final<|message|> begins it.", "In Harmony, <|channel|>final<|message|> begins it.", 0),
    ('{"name": "find", "arguments": {"q": NaN}}', '{"name": "find", "arguments": {"q": NaN}}', 0),
    ('{"name": "find", "arguments": {"q": "\\ud83d"}}', '{"name": "find", "arguments": {"q": "\\ud83d"}}', 0),
    ('<tool_call>{"name": "find", "arguments": {"q": "</tool_call>"}}</tool_call>', None, 1),
    ("<|python_tag|>" + FIND + "; " + FIND + "; and", "; and", 2),
    ("<tool_call>" * 400 + "{" * 3000, "<tool_call>" * 400 + "{" * 3000, 0),
]


@pytest.mark.parametrize(("text", "content", "num_calls"), ROWS, ids=range(len(ROWS)))
def test_rows(text, content, num_calls):
    for message in (parse_answer(text, tools=TOOLS), streamed(text, tools=TOOLS)):
        assert (message.content, len(message.tool_calls)) == (content, num_calls)


def test_text_is_passed_on_before_the_answer_ends():
    parser = AnswerParser(tools=TOOLS)
    said = [message_of(parser.push(piece)).content for piece in ("Use the ", "<tool_call>", " tag in XML", " here")]
    assert said == ["Use the", "", " <tool_call> tag in XML", " here"]


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        (CALLS[10], {"q": "Huế, {1}", "n": [1, 2.5], "deep": {"a": True, "b": None}}),
        (CALLS[9], {"q": "Huế"}),
        (CALLS[8], {"q": 1}),
        ("<|tool_call>call:time{}<tool_call|>", {}),
    ],
)
def test_arguments_of_the_new_syntaxes(text, arguments):
    (call,) = parse_answer(text, tools=TOOLS).tool_calls
    assert json.loads(json.dumps(call.arguments)) == arguments
