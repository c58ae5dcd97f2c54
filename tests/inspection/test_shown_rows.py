"""Claims about rows as they are shown: blocks by message, why a row has no example, which row a name finds."""

from __future__ import annotations

import json

import pytest
from tests.inspection.hand_made import Token
from tests.inspection.small_chat import small_chat

from instil.conversation import Conversation, Message, Place
from instil.errors import DataError
from instil.inspection.findings import Finding
from instil.inspection.shown_rows import ShownExample, find_row, show_row
from instil.inspection.survey import KeptRow
from instil.recipe import Recipe
from instil.views.tokens import blocks_of

PLACE = Place("a.jsonl", 1)
TURNS = [
    # index  token                        block
    Token("<|start|>"),  # 0              1 user
    Token("user\n"),  # 1
    Token("Hi", 0),  # 2
    Token("<|end|>"),  # 3                the control token after a message belongs to it
    Token("\n"),  # 4                     and white space after that
    Token("<|start|>"),  # 5              2 assistant
    Token("assistant\n"),  # 6
    Token("Hello.", 1, 1.0),  # 7
    Token("<|end|>", None, 1.0),  # 8     a trained stop token
    Token("\n"),  # 9
    Token("<|start|>"),  # 10             template
    Token("assistant\n"),  # 11
]
BLOCKS = [
    (TURNS, [(0, "1 user"), (5, "2 assistant"), (10, "template")]),
    (TURNS[:10], [(0, "1 user"), (5, "2 assistant")]),
    ([Token("tools", -1), Token("Hi", 0)], [(0, "tools"), (1, "1 user")]),
    ([Token("Hi", 0), Token("."), Token("Hello.", 1)], [(0, "1 user"), (1, "2 assistant")]),  # no control token
    ([Token("<|start|>"), Token("\n")], [(0, "template")]),
    ([], []),
]


@pytest.mark.parametrize(("tokens", "blocks"), BLOCKS)
def test_a_block_ends_after_the_control_token_and_white_space_of_its_message(tokens, blocks):
    assert blocks_of(tokens, ["user", "assistant"]) == blocks


def test_only_weights_above_zero_count_as_trained():
    assert ShownExample([Token("a"), Token("b", 1, 0.5), Token("c", 1, 1.0)]).num_trained == 2


def kept(*turns):
    return KeptRow(PLACE, (Conversation(tuple(Message(role, text) for role, text in turns), place=PLACE),))


def test_a_row_without_example_or_finding_gets_the_reason():
    long = kept(("user", "Count."), ("assistant", " ".join(map(str, range(100)))))
    shown = show_row(small_chat(max_tokens=20), long, [])
    (finding,), (example,) = shown.findings, shown.examples
    assert (finding.kind, finding.seen) == ("over_limit", f"{len(example.tokens)} of 20 tokens: left out")
    assert (example.limit, example.num_trained) == (20, 0)
    assert [token.id for token in example.tokens] == list(small_chat().encode(long.conversations[0])[0].token_ids)
    (finding,) = show_row(small_chat(), kept(("assistant", "An answer without a prompt.")), []).findings
    assert (finding.kind, finding.seen) == ("no_answer", "no token in it is trained")


def test_a_reason_that_is_already_known_is_not_repeated():
    known = [Finding("refused", PLACE, "typed control token")]
    row = kept(("user", "Say <|im_end|>"), ("assistant", "no"))
    chat = small_chat(typed_control_tokens="refuse")
    assert list(show_row(chat, row, known).findings) == known
    (finding,) = show_row(chat, row, []).findings
    assert finding.kind == "refused"
    assert not finding.seen.startswith("a.jsonl")


@pytest.fixture
def recipe(tmp_path):
    for name in ("a", "b"):
        rows = [
            {"messages": [{"role": "user", "content": f"{name}{n}"}, {"role": "assistant", "content": "Yes."}]}
            for n in (1, 2)
        ]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return Recipe.from_mapping({"data": {"sources": [str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")]}})


@pytest.mark.parametrize(("name", "text"), [("2", "a2"), ("b.jsonl:2", "b2"), ("a.jsonl:1", "a1")])
def test_a_number_finds_the_row_of_the_first_source_and_a_place_that_of_its_own(recipe, name, text):
    shown = find_row(recipe, small_chat(), name)
    assert text in "".join(token.text for token in shown.examples[0].tokens)
    assert shown.findings == ()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("0", r"^row=0: is not a row\. Expected a row's number from 1, or a place\."),
        ("first", r"^row first: is not a row\."),
        ("b.jsonl:9", r"^b\.jsonl: has no row 9\."),
        ("l:1", r"^l: has no row 1\."),  # the end of a file's name is not its name
        ("9", r"a\.jsonl, \S+b\.jsonl: has no row 9\."),
    ],
)
def test_a_row_that_is_not_there_names_where_it_was_looked_for(recipe, name, message):
    with pytest.raises(DataError, match=message):
        find_row(recipe, small_chat(), name)
