"""Claims about pairs and judged answers as they are shown: the tokens of preparation, the common prompt, every reason."""

from __future__ import annotations

import json
import re

import pytest
from tests.inspection.hand_made import Token
from tests.inspection.small_chat import other_template, small_chat
from tests.views.parsed import text_of

from instil.inspection.shown_examples import ShownExample, ShownPair, parts_of
from instil.inspection.shown_rows import find_row, show_row
from instil.inspection.survey import survey
from instil.preparation.encode_pairs import encode_units, units_of
from instil.recipe import Recipe


def messages(*turns):
    return [{"role": role, "content": content} for role, content in turns]


TALK = [("user", "Hello"), ("assistant", "Hi."), ("user", "A city?")]
PAIR = {"prompt": "Name a river.", "chosen": "The Nile.", "rejected": "I do not like rivers."}
OF_MESSAGES = {
    "chosen": messages(*TALK, ("assistant", "Rome.\nIt is in Italy.")),
    "rejected": messages(*TALK, ("assistant", "No."), ("user", "Why?"), ("assistant", "Because.")),
}
OTHER_PROMPT = {
    "chosen": OF_MESSAGES["chosen"],
    "rejected": messages(*TALK[:2], ("user", "A city here?"), ("assistant", "No.")),
}


@pytest.fixture
def recipe(tmp_path):
    def write(*rows, objective="dpo", **data):
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return Recipe.from_mapping({"data": {"sources": [str(path)], **data}, "training": {"objective": objective}})

    return write


def shown_row(recipe, row, **settings):
    return find_row(recipe(row), small_chat(**settings), "1")


def words(tokens):
    return "".join(token.text for token in tokens)


@pytest.mark.parametrize("row", [PAIR, OF_MESSAGES])
def test_the_sides_have_the_ids_and_weights_of_preparation(recipe, row):
    (kept,) = survey(recipe(row), small_chat(), keep_rows=1).rows
    ((_, prepared),) = encode_units(units_of(kept.conversations, "pairs"), small_chat(), "pairs")
    shown = show_row(small_chat(), kept, [])
    assert shown.findings == ()
    assert [example.side for example in shown.examples] == ["chosen", "rejected"]
    for example, expected in zip(shown.examples, prepared, strict=True):
        assert [token.id for token in example.tokens] == list(expected.token_ids)
        assert [token.weight for token in example.tokens] == list(expected.weights)


def test_the_common_prompt_ends_where_both_answers_begin_and_each_ends_with_its_stop_token(recipe):
    (pair,) = parts_of(shown_row(recipe, OF_MESSAGES).examples)
    common = pair.num_common
    assert words(pair.chosen.tokens[:common]).endswith("A city?<|im_end|>\n<|im_start|>assistant\n")
    assert words(pair.chosen.tokens[common:]) == "Rome.\nIt is in Italy.<|im_end|>"
    trained = [token.text for token in pair.rejected.tokens[common:] if token.weight > 0]
    assert "".join(trained) == "No.<|im_end|>Because.<|im_end|>"
    assert pair.counts("rejected") == f"{len(trained)} of {len(pair.rejected.tokens)} tokens trained"


LEFT_OUT = [
    ({**PAIR, "rejected": " The Nile. "}, "both answers are equal", "both answers are equal."),
    ({**PAIR, "rejected": "The Nile. It is long."}, "one answer is the beginning of the other", "one answer is"),
    (OTHER_PROMPT, "prompts differ", "message 3 of the chosen side is from user and differs from the other side's."),
]


@pytest.mark.parametrize(("row", "reason", "seen"), LEFT_OUT)
def test_a_pair_that_is_left_out_has_its_reason_and_no_trained_token(recipe, row, reason, seen):
    shown = shown_row(recipe, row)
    (finding,) = shown.findings
    assert finding.kind == "no_pair"
    assert finding.seen.startswith(seen)
    (pair,) = parts_of(shown.examples)
    assert pair.left_out == reason
    assert [example.num_trained for example in shown.examples] == [0, 0]
    assert any(token.weight > 0 for token in pair.chosen.tokens), "it is shown as it would be"


def test_a_finding_of_the_survey_is_not_repeated(recipe):
    made = survey(recipe(OTHER_PROMPT), small_chat(), keep_rows=1)
    assert show_row(small_chat(), made.rows[0], list(made.findings)).findings == tuple(made.findings)


def test_prompts_that_differ_are_the_same_up_to_a_whole_line(recipe):
    (pair,) = parts_of(shown_row(recipe, OTHER_PROMPT).examples)
    assert words(pair.chosen.tokens[: pair.num_common]).endswith("<|im_start|>user\n")
    assert words(pair.rejected.tokens[pair.num_common :]).startswith("A city here?")


def test_a_pair_with_a_side_over_the_limit_is_left_out_whole_and_shown(recipe):
    shown = shown_row(recipe, PAIR, max_tokens=24)
    (finding,) = shown.findings
    longest = len(shown.examples[1].tokens)
    assert (finding.kind, finding.seen) == ("over_limit", f"{longest} of 24 tokens: left out")
    assert len(shown.examples[0].tokens) < 24 < longest
    assert [(example.limit, example.num_trained) for example in shown.examples] == [(24, 0), (24, 0)]
    assert next(iter(parts_of(shown.examples))).left_out == "too long"


def test_a_side_that_the_template_refuses_leaves_the_other_alone(recipe):
    refusing = (
        "{% for m in messages %}{% if m.content == 'Never.' %}{{ raise_exception('not that') }}{% endif %}"
        "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    shown = find_row(recipe({**PAIR, "rejected": "Never."}), other_template(refusing), "1")
    (finding,) = shown.findings
    assert finding.kind == "refused"
    assert finding.seen.startswith("the rejected answer: ")
    assert "not that" in finding.seen
    (alone,) = parts_of(shown.examples)
    assert (alone.side, alone.left_out, alone.num_trained) == ("chosen", "rejected answer refused", 0)


def test_several_rejected_answers_are_several_pairs_each_with_its_own_reason(recipe):
    shown = shown_row(recipe, {**PAIR, "rejected": ["Lake Chad.", "The Nile."]})
    first, second = parts_of(shown.examples)
    assert [example.pair for example in shown.examples] == [1, 1, 2, 2]
    assert (first.left_out, second.left_out) == ("", "both answers are equal")
    assert first.rejected.num_trained > 0
    assert [finding.kind for finding in shown.findings] == ["no_pair"]


def test_a_judged_answer_is_shown_alone_with_its_judgement(recipe):
    rows = [{"prompt": "Name a river.", "completion": "The Nile.", "label": label} for label in (True, False)]
    for number, answer in ((1, "judged good"), (2, "judged bad")):
        (example,) = find_row(recipe(*rows, objective="kto"), small_chat(), str(number)).examples
        assert (example.answer, example.pair) == (answer, None)
        assert words(token for token in example.tokens if token.weight > 0) == "The Nile.<|im_end|>"


def test_rendered_answers_keep_their_side_and_train_only_what_follows_the_question(recipe):
    start = "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\nHi.<|im_end|>\n<|im_start|>user\nA river?<|im_end|>\n"
    prompt = f"{start}<|im_start|>assistant\n"
    answers = {name: f"{PAIR[name]}<|im_end|>\n" for name in ("chosen", "rejected")}
    (pair,) = parts_of(shown_row(recipe, {"prompt": prompt, **answers}).examples)
    assert [words(token for token in side.tokens if token.weight > 0) for side in (pair.chosen, pair.rejected)] == [
        "The Nile.<|im_end|>",
        "I do not like rivers.<|im_end|>",
    ]
    judged = recipe({"prompt": prompt, "completion": answers["chosen"], "label": True}, objective="kto")
    (example,) = find_row(judged, small_chat(), "1").examples
    assert example.answer == "judged good"
    assert words(token for token in example.tokens if token.weight > 0) == "The Nile.<|im_end|>"


def test_examples_that_are_no_pair_are_shown_one_by_one():
    one = ShownExample([Token("a")], side="chosen", pair=1)
    other = ShownExample([Token("b")], side="rejected", pair=1)
    assert list(parts_of([one, other])) == [ShownPair(one, other)]
    assert list(parts_of([one, one, other])) == [one, one, other]
    assert list(parts_of([one])) == [one]
    plain = ShownExample([Token("a")])
    assert list(parts_of([plain, plain])) == [plain, plain]


def test_a_notebook_shows_the_prompt_once_and_both_answers_with_their_counts(recipe):
    shown = shown_row(recipe, PAIR)
    page = shown._repr_html_()
    text = text_of(page)
    assert text.count("Name a river.") == 1
    assert [found.split()[0] for found in re.findall(r'class="side ([^"]+)"', page)] == ["chosen", "rejected"]
    pair = next(iter(parts_of(shown.examples)))
    for side in ("chosen", "rejected"):
        assert f"{side} {pair.counts(side)}" in text
        assert f"⟦{PAIR[side]}<|im_end|>⟧" in text
    assert repr(pair) == f"ShownPair(chosen {pair.counts('chosen')}, rejected {pair.counts('rejected')})"
    assert "left out: both answers are equal" in text_of(
        shown_row(recipe, {**PAIR, "rejected": "The Nile."})._repr_html_()
    )


def test_positions_in_a_notebook_are_those_of_the_example(recipe):
    pair = next(iter(parts_of(shown_row(recipe, PAIR).examples)))
    page = pair._repr_html_()
    shown = [int(at) for at in re.findall(r'title="token (\d+) ', page)]
    common = pair.num_common
    assert shown == [*range(len(pair.chosen.tokens)), *range(common, len(pair.rejected.tokens))]
