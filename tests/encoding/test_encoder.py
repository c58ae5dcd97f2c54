from __future__ import annotations

import pytest
from tests.encoding.chats import CHATML, FORGETFUL, chat, chat_with, trained, two_turns

from instil.encoding.settings import EncodingSettings
from instil.errors import DroppedTextError, EncodingError


def test_the_answer_and_its_stop_token_are_trained_and_nothing_else() -> None:
    (example,) = chat().encode(two_turns())
    assert trained(chat(), example) == ["First.<|im_end|>", "Second.<|im_end|>"]
    assert example.turns == (1, 3)
    assert set(example.weights) == {0.0, 1.0}


def test_rewritten_history_gives_each_turn_its_own_example() -> None:
    forgetful = chat(FORGETFUL)
    examples = forgetful.encode(two_turns(reasoning_content="Hm."))
    assert [trained(forgetful, each) for each in examples] == [
        ["<think>\n\n</think>\n\nFirst.<|im_end|>"],
        ["<think>\nHm.\n</think>\n\nSecond.<|im_end|>"],
    ]
    assert forgetful.report.token_factor > 1


def test_history_rewritten_last_turn_keeps_the_last_example() -> None:
    (example,) = chat_with(FORGETFUL, history_rewritten="last_turn").encode(two_turns())
    assert example.turns == (3,)


def test_history_rewritten_refuse_names_the_setting() -> None:
    with pytest.raises(EncodingError, match=r"data.history_rewritten"):
        chat_with(FORGETFUL, history_rewritten="refuse").encode(two_turns())


def test_weights_multiply_and_zero_is_context() -> None:
    messages = two_turns(weight=0.25)
    messages[1]["weight"] = 0
    (example,) = chat().encode(messages)
    assert trained(chat(), example) == ["Second.<|im_end|>"]
    assert set(example.weights) == {0.0, 0.25}
    assert chat().encode([two_turns()[0], {"role": "assistant", "content": "x", "weight": 0}]) == []


def test_train_on_last_trains_the_last_turn_only() -> None:
    (example,) = chat().encode(two_turns(), train_on="last")
    assert trained(chat(), example) == ["Second.<|im_end|>"]


UNDECIDABLE_AT_FIRST = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}"
    "<|im_start|>assistant\n{{ 'Sure! ' if messages|length == 1 }}{% endif %}"
)


def test_a_turn_that_is_not_trained_need_not_be_decidable() -> None:
    with pytest.raises(EncodingError, match="message 2: serving's prompt ends with 'Sure! '"):
        chat(UNDECIDABLE_AT_FIRST).encode(two_turns())
    (example,) = chat(UNDECIDABLE_AT_FIRST).encode(two_turns(), train_on="last")
    assert (trained(chat(), example), example.turns) == (["Second.<|im_end|>"], (3,))
    last = chat_with(UNDECIDABLE_AT_FIRST, train_on="last")
    assert last.encode(two_turns()) == [example]
    assert list(last.encode_many([two_turns()])) == [[example]]
    (explained,) = last.explain(two_turns())
    assert [token.message for token in explained.tokens if token.weight][-2:] == [3, None]
    first, *rest = two_turns()
    assert chat(UNDECIDABLE_AT_FIRST).encode([first, {**rest[0], "weight": 0}, *rest[1:]]) == [example]


def test_train_on_all_trains_all_but_the_first_token() -> None:
    (example,) = chat().encode([*two_turns(), {"role": "user", "content": "Three?"}], train_on="all")
    assert list(example.weights) == [0.0] + [1.0] * (len(example.token_ids) - 1)
    assert chat().decode(example.token_ids).endswith("Three?<|im_end|>\n")


def test_inline_reasoning_goes_where_the_template_has_a_place_for_it() -> None:
    messages = [{"role": "user", "content": "One?"}, {"role": "assistant", "content": "<think>Hm</think>First."}]
    assert trained(chat(), chat().encode(messages)[0]) == ["<think>\nHm\n</think>\n\nFirst.<|im_end|>"]
    kept = chat_with(inline_reasoning="keep")
    assert trained(kept, kept.encode(messages)[0]) == ["<think>Hm</think>First.<|im_end|>"]
    no_place = CHATML.replace("reasoning_content", "nothing")
    assert trained(chat(no_place), chat(no_place).encode(messages)[0]) == ["<think>Hm</think>First.<|im_end|>"]
    split = chat_with()
    split.encode(messages)
    assert split.report.inline_reasoning == 1


def test_reasoning_that_the_template_does_not_print_is_counted() -> None:
    deaf = chat_with(CHATML.replace("reasoning_content", "nothing"))
    deaf.encode(two_turns(reasoning_content="Hm."))
    assert deaf.report.reasoning_ignored == 1


def test_the_prompt_is_transformers_own_where_nothing_was_typed() -> None:
    messages = two_turns()[:3]
    served = chat().tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert chat().prompt(messages) == served


def test_what_cannot_be_decided_is_refused_with_reason_and_setting() -> None:
    source = CHATML.replace("<|im_start|>assistant\n{% endif %}", "<|im_start|>assistant\n<plan>{% endif %}")
    with pytest.raises(
        EncodingError, match=r"message 2: serving's prompt ends with .*<plan>.*data\.template_variables"
    ):
        chat(source).encode(two_turns())


def test_a_template_that_drops_the_answer_is_refused() -> None:
    source = CHATML.replace("{{ m.content }}", "{{ m.content if m.role == 'user' }}")
    with pytest.raises(EncodingError, match="does not print the assistant's text"):
        chat(source).encode(two_turns())


HEADLESS = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>{% endfor %}"
ROW_OF_ANSWERS = [
    {"role": "user", "content": "One?"},
    {"role": "assistant", "content": "First."},
    {"role": "assistant", "content": "Second."},
    {"role": "user", "content": "Two?"},
    {"role": "assistant", "content": "Third."},
]


def test_turns_whose_spans_would_touch_do_not_share_an_example() -> None:
    examples = chat(HEADLESS).encode(ROW_OF_ANSWERS)
    assert [example.turns for example in examples] == [(1,), (2, 4)]
    assert [trained(chat(HEADLESS), example) for example in examples] == [
        ["<|im_start|>assistant\nFirst.<|im_end|>"],
        ["<|im_start|>assistant\nSecond.<|im_end|>", "<|im_start|>assistant\nThird.<|im_end|>"],
    ]


def test_a_stop_token_before_the_answer_is_refused() -> None:
    source = HEADLESS.replace("<|im_end|>", "{% if not loop.last or m.role == 'user' %}<|im_end|>{% endif %}")
    with pytest.raises(EncodingError, match=r"message 3: the model would have to generate '<\|im_end\|>'.*weight 0"):
        chat(source).encode(ROW_OF_ANSWERS)
    row = [ROW_OF_ANSWERS[0], ROW_OF_ANSWERS[1], {**ROW_OF_ANSWERS[2], "weight": 0}, *ROW_OF_ANSWERS[3:]]
    assert [example.turns for example in chat(source).encode(row)] == [(1, 4)]


def test_reasoning_that_the_template_cuts_out_of_an_answer_is_counted() -> None:
    source = CHATML.replace("m.reasoning_content", "false").replace(
        "{{ m.content }}", "{{ m.content.split('</think>')[-1] }}"
    )
    own = chat_with(source)
    row = [{"role": "user", "content": "One?"}, {"role": "assistant", "content": "<think>Hm.</think>First."}]
    assert trained(own, own.encode(row)[0]) == ["First.<|im_end|>"]
    assert own.report.reasoning_ignored == 1
    own.encode(two_turns())
    assert own.report.reasoning_ignored == 1


@pytest.mark.parametrize("family", ["unigram", "metaspace"])
def test_an_answer_that_the_tokenizer_cannot_write_is_refused(family: str) -> None:
    own = chat(family=family)
    own.encode(two_turns())
    rows = [{"role": "user", "content": "One?"}, {"role": "assistant", "content": "ꙮ!"}]
    if family == "metaspace":  # it writes bytes
        assert trained(own, own.encode(rows)[0]) == ["ꙮ!<|im_end|>"]
        return
    with pytest.raises(EncodingError, match="message 2: the tokenizer cannot write all of its characters"):
        own.encode(rows)


def test_an_answer_whose_header_history_leaves_out_follows_servings_prompt() -> None:
    from tests.conformance.unusual import UNUSUAL

    bare = chat(UNUSUAL["header behind a question only"].source)
    examples = bare.encode(ROW_OF_ANSWERS)
    assert [(example.turns, trained(bare, example)) for example in examples] == [
        ((2,), ["Second.<|im_end|>"]),
        ((1, 4), ["First.<|im_end|>", "Third.<|im_end|>"]),
    ]
    assert bare.decode(examples[0].token_ids).endswith("First.<|im_end|>\n<|im_start|>assistant\nSecond.<|im_end|>")
    thinking = chat(UNUSUAL["header behind a question only, prompt opens a block"].source)
    spans = [trained(thinking, example) for example in thinking.encode(ROW_OF_ANSWERS)]
    assert ["\n</think>\n\nSecond.<|im_end|>"] in spans


def test_tool_calls_that_the_template_drops_are_refused() -> None:
    from tests.conformance.cases import CALLING, TOOL

    rows = [CALLING[0], {**CALLING[1], "content": "Let me look."}, *CALLING[2:]]
    with pytest.raises(EncodingError, match="message 2: the template does not print the tool calls of this turn"):
        chat().encode({"messages": rows, "tools": [TOOL]})
    quiet = {"messages": [rows[0], {**rows[1], "weight": 0}, *rows[2:]], "tools": [TOOL]}
    with pytest.raises(DroppedTextError, match=r"message 2 \(assistant\), tool call 1: 'weather'"):
        chat().encode(quiet)
    (example,) = chat().with_settings(EncodingSettings(dropped_text="accept")).encode(quiet)
    assert example.turns == (3,)
    assert example.dropped[0] == "message 2 (assistant), tool call 1: 'weather'"


@pytest.mark.parametrize("shown", ["' name=' + m.name", "' [' + m.name + ']'"])
def test_a_name_that_history_has_in_the_header_is_not_trained(shown: str) -> None:
    template = CHATML.replace("{{ m.role }}\n", "{{ m.role ~ (" + shown + " if m.name else '') }}\n")
    turns = two_turns(name="ann")
    turns[1]["name"] = "bob"
    examples = chat(template).encode(turns)
    assert [trained(chat(template), example) for example in examples] == [["First.<|im_end|>"], ["Second.<|im_end|>"]]
    for example, end in zip(examples, (1, 3), strict=True):
        prompt = chat(template).tokenizer.apply_chat_template(
            turns[:end], add_generation_prompt=True, return_dict=False
        )
        assert list(example.token_ids)[: len(prompt)] == prompt
