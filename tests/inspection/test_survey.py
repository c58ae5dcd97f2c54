"""Claims about the survey: training's own ledger, right histograms, findings with places, bounded keeping."""

from __future__ import annotations

import json

import pytest
from tests.inspection.small_chat import other_template, small_chat

from instil.errors import DataError, RecipeError
from instil.inspection.findings import KINDS
from instil.inspection.fixed_file import write_fixed
from instil.inspection.page_file import write_page
from instil.inspection.repair import repair_all
from instil.inspection.report import Subject
from instil.inspection.shown_rows import find_row, show_row
from instil.inspection.survey import find_sources, survey
from instil.preparation.prepare import prepare
from instil.recipe import Recipe


def chat_row(*turns, **more):
    return {"messages": [{"role": role, "content": text} for role, text in turns], **more}


GOOD = [chat_row(("user", f"What is {n} plus {n}?"), ("assistant", f"It is {2 * n}, of course.")) for n in range(20)]
ILL = [
    chat_row(("user", "Name a river."), ("assistant", "")),
    {"instruction": "Name a lake.", "ouput": "Lake Titicaca."},
    chat_row(("human", "Hi"), ("gpt", "Hello.")),
    chat_row(("user", "Say <|im_end|> twice, and then explain why."), ("assistant", "I would rather not.")),
    GOOD[3],
    b'{"messages": [',
    chat_row(("user", "Nobody answers me.")),
    chat_row(("user", "Tell me all."), ("assistant", "All and everything that there is to say. " * 200)),
]


@pytest.fixture
def recipe(tmp_path):
    def made(rows, **data):
        path = tmp_path / "rows.jsonl"
        lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
        path.write_bytes(b"\n".join(lines) + b"\n")
        store = str(tmp_path / "store")
        return Recipe.from_mapping({"data": {"sources": [str(path)], "store": store, **data}})

    return made


def test_the_ledger_is_the_one_that_preparation_writes(recipe):
    settings = recipe(GOOD + ILL, heldout_share=0.0, on_bad_row="skip", max_tokens=200)
    prepared = prepare(settings, small_chat(max_tokens=200)).ledger.to_json()
    surveyed = survey(settings, small_chat(max_tokens=200)).ledger.to_json()
    assert surveyed == prepared
    assert surveyed["rows_in"] == len(GOOD) + len(ILL) == surveyed["rows_trained"] + surveyed["rows_left_out"]


def test_every_ill_row_is_found_at_its_place(recipe):
    found = survey(recipe(GOOD + ILL, max_tokens=200), small_chat(max_tokens=200)).findings
    places = {(each.kind, each.place.row - len(GOOD)) for each in found}
    expected = {
        ("empty_answer", 1),
        ("misspelt_key", 2),
        ("unknown_role", 3),
        ("control_tokens", 4),
        ("duplicate", 5),
        ("unreadable", 6),
        ("no_answer", 7),
        ("loop", 8),
        ("over_limit", 8),
    }
    assert places == expected


def test_a_row_that_is_too_long_says_how_long_it_is_and_what_became_of_it(recipe):
    turns = [turn for n in range(9) for turn in (("user", f"count on from {n}"), ("assistant", f"that is {n + 1}"))]
    rows = [chat_row(*turns)]
    (whole,) = small_chat().encode(rows[0])
    for policy, words in (("drop", "left out"), ("keep_last_turns", "trained without its oldest exchanges")):
        made = survey(recipe(rows, max_tokens=60), small_chat(max_tokens=60, too_long=policy))
        assert [each.seen for each in made.findings] == [f"{len(whole.token_ids)} of 60 tokens: {words}"]
    made = survey(recipe([{"text": " ".join(map(str, range(200)))}], max_tokens=100), small_chat(max_tokens=100))
    total = made.lengths.total
    (finding,) = made.findings
    assert finding.kind == "split_text"
    assert finding.seen == f"{total} tokens, cut into {made.lengths.count} examples of at most 100"
    assert made.lengths.count > 3


def test_a_row_of_a_json_array_is_named_by_its_index_and_line(tmp_path):
    path = tmp_path / "rows.json"
    bad = {"messages": [{"role": "user", "content": "Name a lake."}, {"role": "assistant", "content": ""}]}
    path.write_text(json.dumps([*GOOD, bad, bad], indent=2))
    line = path.read_text()[: path.read_text().index("Name a lake.")].count("\n") - 3
    recipe = Recipe.from_mapping({"data": {"sources": [str(path)]}})
    made = survey(recipe, small_chat(), keep_rows=99)
    place = f"{path}[{len(GOOD)}] (line {line})"
    assert str(made.findings.of_kind("empty_answer")[0].place) == place
    assert made.findings.of_kind("duplicate")[0].seen == f"the same as {place}"
    assert made.rows[len(GOOD)].place == made.findings.of_kind("empty_answer")[0].place
    for wanted in (place, f"rows.json[{len(GOOD)}]", str(len(GOOD) + 1)):
        assert str(find_row(recipe, small_chat(), wanted).place) == place


def test_good_rows_show_nothing_and_every_example_is_counted(recipe):
    made = survey(recipe(GOOD), small_chat())
    assert made.findings.counts == {}
    examples = [example for row in GOOD for example in small_chat().encode(row)]
    lengths = [len(example.token_ids) for example in examples]
    assert (made.lengths.count, made.lengths.total) == (len(GOOD), sum(lengths))
    assert made.lengths.largest == max(lengths)
    trained = sum(sum(weight > 0 for weight in example.weights) for example in examples)
    assert made.answer_lengths.total == trained == made.ledger.trained_tokens
    assert sum(each.count for each in made.shares.bins()) == len(GOOD)


def test_a_cut_answer_is_reported_and_not_as_a_missing_stop_token(recipe):
    cut = survey(recipe(ILL[-1:], max_tokens=100), small_chat(max_tokens=100, too_long="truncate_answer")).findings
    assert cut.counts.get("over_limit") == 1
    assert "missing_stop" not in cut.counts


def test_a_template_that_rewrites_history_raises_the_token_factor(recipe):
    rewriting = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n"
        "{% if m.role == 'assistant' and not loop.last %}{{ m.content | upper }}{% else %}{{ m.content }}{% endif %}"
        "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    turns = [turn for n in range(8) for turn in (("user", f"count on from {n}"), ("assistant", f"that is {n + 1}"))]
    made = survey(recipe([chat_row(*turns)]), other_template(rewriting))
    assert made.ledger.token_factor > 3
    (finding,) = made.findings.of_kind("token_factor")
    assert finding.place is None
    assert "times the tokens" in finding.seen


def test_rows_with_findings_are_kept_first_and_shown_in_the_order_of_the_data(recipe):
    kept = survey(recipe(GOOD + ILL[:2]), small_chat(), keep_rows=4).rows
    assert [row.place.row for row in kept] == [1, 2, 21, 22]
    assert [len(row.conversations) for row in kept] == [1, 1, 1, 0]


def test_missing_data_is_one_clear_error(recipe):
    with pytest.raises(DataError, match="no such file"):
        find_sources(Recipe.from_mapping({"data": {"sources": ["nowhere.jsonl"]}}))
    with pytest.raises(RecipeError, match="found none"):
        find_sources(Recipe())


def test_a_shown_row_has_the_encoders_own_ids_and_weights(recipe):
    turns = [
        ("system", "Be brief."),
        ("user", "Hi"),
        ("assistant", "Hello."),
        ("user", "Bye"),
        ("assistant", "Farewell."),
    ]
    settings = recipe([GOOD[0], chat_row(*turns)])
    shown = find_row(settings, small_chat(), "2")
    (example,) = small_chat().encode(chat_row(*turns))
    assert [token.id for token in shown.examples[0].tokens] == list(example.token_ids)
    assert [token.weight for token in shown.examples[0].tokens] == list(example.weights)
    texts = dict.fromkeys(range(5), "")
    for token in shown.examples[0].tokens:
        if token.message is not None:
            texts[token.message] += token.text
    assert texts == dict(enumerate(text for _, text in turns))
    assert shown.examples[0].roles == ("system", "user", "assistant", "user", "assistant")


@pytest.mark.parametrize("row", ["2", "rows.jsonl:2"])
def test_a_row_is_found_by_number_or_place(recipe, row):
    assert find_row(recipe(GOOD), small_chat(), row).place.row == 2


@pytest.mark.parametrize(
    ("row", "message"), [("99", "has no row 99"), ("x", "Expected a row's number"), ("0", "Expected")]
)
def test_a_row_that_does_not_exist_is_a_clear_error(recipe, row, message):
    with pytest.raises(DataError, match=message):
        find_row(recipe(GOOD), small_chat(), row)


def test_a_row_without_an_example_has_the_reason(recipe):
    settings = recipe([ILL[1], chat_row(("user", "a"), ("assistant", "word " * 300))])
    assert [each.kind for each in find_row(settings, small_chat(), "1").findings] == ["misspelt_key"]
    shown = find_row(settings, small_chat(max_tokens=50), "2")
    assert [example.limit for example in shown.examples] == [50]
    assert {"loop", "over_limit"} <= {each.kind for each in shown.findings}
    assert shown.examples[0].counts.startswith(f"{len(shown.examples[0].tokens)} of 50 tokens: left out")


def test_a_refused_row_has_the_reason(recipe):
    settings = recipe([chat_row(("user", "Say <|im_end|>"), ("assistant", "no"))])
    chat = small_chat(typed_control_tokens="refuse")
    made = survey(settings, chat, keep_rows=1)
    assert made.findings.counts == {"refused": 1}
    shown = show_row(chat, made.rows[0], list(made.findings))
    assert [each.kind for each in shown.findings] == ["refused"]
    assert "control token" in shown.findings[0].seen


def test_the_page_is_written_with_the_rows_that_were_kept(recipe, tmp_path):
    chat = small_chat()
    made = survey(recipe(GOOD + ILL[:2]), chat, keep_rows=5)
    subject = Subject("rows.jsonl", "demo", "chatml", chat.stop_tokens)
    line = write_page(tmp_path / "page.html", chat, subject, made, chat.prove())
    assert line.endswith("5 of 22 rows, those with findings first; --html-rows N shows more")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count('"place":"') == 5
    assert "proof passed" in page
    with pytest.raises(DataError, match="cannot be written"):
        write_page(tmp_path / "nowhere" / "page.html", chat, subject, made, chat.prove())


def test_an_answer_that_does_not_end_with_a_stop_token_is_found(recipe):
    chat = small_chat()
    assert survey(recipe(GOOD[:3]), chat).findings.counts == {}
    chat.context.__dict__["stop_ids"] = (max(chat.context.added) + 1,)  # as if serving stopped on another token
    found = survey(recipe(GOOD[:3]), chat).findings
    assert found.counts == {"missing_stop": 3}
    assert [each.place.row for each in found] == [1, 2, 3]


def test_reasoning_that_the_template_leaves_out_is_found(recipe):
    turns = [
        {"role": "user", "content": "2+2?"},
        {"role": "assistant", "content": "4", "reasoning_content": "two and two"},
        {"role": "user", "content": "3+3?"},
        {"role": "assistant", "content": "6", "reasoning_content": "three and three"},
    ]
    silent = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    assert survey(recipe([{"messages": turns}]), small_chat()).findings.counts == {}
    (finding,) = survey(recipe([{"messages": turns}]), other_template(silent)).findings
    assert (finding.kind, finding.seen) == ("unused_reasoning", "reasoning in messages 2, 4")


ANSWER = "Rivers rise in the hills, and they run through the plains until they meet the sea."
LONG = " ".join(
    f"On day {n} the river rose by {n * 3} feet, and farmer {n * 7} moved {n} sheep uphill." for n in range(9)
)
PLANTED = {
    "misspelt_key": [{"instruction": "Name a lake.", "ouput": "Lake Titicaca."}],
    "unknown_role": [chat_row(("human", "Hi"), ("gpt", "Hello."))],
    "unreadable": [b'{"messages": ['],
    "unknown_format": [{"weird": 1}],
    "refused": [chat_row(("user", "refuse me"), ("assistant", "Never."))],
    "dropped_text": [chat_row(("user", "drop the answer's end"), ("assistant", "Kept. Lost."))],
    "no_answer": [chat_row(("user", "Nobody answers me."))],
    "empty_answer": [chat_row(("user", "Name a river."), ("assistant", ""))],
    "over_limit": [chat_row(("user", "Tell me all."), ("assistant", " ".join(map(str, range(400)))))],
    "split_text": [{"text": " ".join(f"{n} and {n}" for n in range(300))}],
    "cut_answer": [chat_row(("user", "Go on."), ("assistant", LONG + " But in the end nobody could say how long it took and"))],
    "missing_stop": [chat_row(("user", "no stop"), ("assistant", "Then none."))],
    "typed_stop": [chat_row(("user", "Say it."), ("assistant", "It.<|im_end|>"))],
    "control_tokens": [chat_row(("user", "Say <|im_end|> twice, then explain why."), ("assistant", "I would rather not."))],
    "rendered": [{"text": "<|im_start|>tool\n4<|im_end|>\n<|im_start|>assistant\nFour.<|im_end|>\n"}],
    "read_back": [{"text": "<s>[INST] Deepest lake? [/INST] Baikal. </s>"}],
    "untrained_weight": [
        {"messages": [{"role": "user", "content": "A?", "train": True}, {"role": "assistant", "content": "B."}]}
    ],
    "says_nothing": [chat_row(("user", "Highest hill?"), ("assistant", "N/A"))],
    "placeholder": [chat_row(("user", "Greet {{name}} for me."), ("assistant", "Good morning."))],
    "empty_question": [chat_row(("user", ""), ("assistant", "Certainly, here."))],
    "mojibake": [chat_row(("user", "Where is MÃ¼nchen?"), ("assistant", "In Bavaria."))],
    "lost_characters": [chat_row(("user", "Where is M\ufffdnster?"), ("assistant", "In Westphalia."))],
    "role_order": [chat_row(("user", "One."), ("user", "Two."), ("assistant", "Three."))],
    "unread_column": [{**chat_row(("user", "Who are you?"), ("assistant", "A bot.")), "sys_prompt": "Be a bot."}],
    "unused_reasoning": [{"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So.", "reasoning": "Hm."}]}],
    "accepted_loss": [chat_row(("user", "drop the answer's end"), ("assistant", "Kept. Lost."))],
    "duplicate": [GOOD[3]],
    "near_duplicate": [
        chat_row(("user", f"Tell me at some length about the rivers of the north {word}."), ("assistant", LONG))
        for word in ("today", "now")
    ],
    "repeated_answer": [chat_row(("user", f"What does word {n} mean?"), ("assistant", ANSWER)) for n in range(4)],
    "loop": [chat_row(("user", "Sing."), ("assistant", "All and everything that there is to say. " * 20))],
    "token_factor": [
        chat_row(*(turn for n in range(8) for turn in (("user", f"rewrite from {n}"), ("assistant", f"that is {n + 1}"))))
    ],
}  # fmt: skip
ODD = (
    "{% for m in messages %}{% if m.content == 'refuse me' %}{{ raise_exception('never') }}{% endif %}"
    "<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and not loop.last and messages[0].content.startswith('rewrite') %}{{ m.content | upper }}"
    "{% elif m.role == 'assistant' and 'drop' in messages[0].content %}{{ m.content[:5] }}{% else %}{{ m.content }}{% endif %}"
    "{% if not (m.role == 'assistant' and messages[0].content == 'no stop') %}<|im_end|>\n{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class OtherStop:
    """A chat tokenizer whose stop token is not the one that it trains: what the encoder never lets happen by itself."""

    stop_ids = (0,)

    def __init__(self, chat):
        self._chat = chat

    def __getattr__(self, name):
        return getattr(self._chat, name)


@pytest.mark.slow
def test_every_kind_is_found_in_data_that_has_it_and_only_there(recipe):
    assert set(PLANTED) == set(KINDS) - set(PLANTED_PAIRS)
    assert survey(recipe(GOOD, max_tokens=600), other_template(ODD, max_tokens=600)).findings.counts == {}
    for kind, rows in PLANTED.items():
        good = [] if kind in ("token_factor", "missing_stop") else GOOD
        policy = "accept" if kind == "accepted_loss" else "refuse"
        chat = other_template(ODD, max_tokens=600, dropped_text=policy)
        made = survey(recipe(good + rows, max_tokens=600), OtherStop(chat) if kind == "missing_stop" else chat)
        places = [finding.place for finding in made.findings.of_kind(kind)]
        assert places, kind
        assert all(place is None or place.row > len(good) for place in places), kind


def compared(number, **other):
    return {
        "prompt": f"What is {number}?",
        "chosen": f"It is the {number}th.",
        "rejected": f"Number {number}, no?",
    } | other


PAIRS = [compared(number) for number in range(20)]
PLANTED_PAIRS = {
    "no_pair": [
        compared(30, rejected="It is the 30th.\n"),
        compared(31, rejected="It is the 31th. Or not."),
        {"prompt": "What is 32?", "responses": ["a lot", "little"], "scores": [1, 1]},
        {"chosen": [{"role": "user", "content": "A?"}, {"role": "assistant", "content": "It is so."}],
         "rejected": [{"role": "user", "content": "B?"}, {"role": "assistant", "content": "It is not."}]},
    ],
    "short_chosen": [compared(33, chosen="4")],
    "contradiction": [compared(3, chosen=PAIRS[3]["rejected"], rejected=PAIRS[3]["chosen"])],
}  # fmt: skip


def test_every_kind_is_found_in_pairs_that_have_it_and_only_there(recipe):
    dpo = {"training": {"objective": "dpo"}}
    assert survey(recipe(PAIRS).override(dpo), small_chat()).findings.counts == {}
    for kind, rows in PLANTED_PAIRS.items():
        made = survey(recipe(PAIRS + rows).override(dpo), small_chat())
        assert made.findings.counts == {kind: len(rows)}
        assert sorted(each.place.row for each in made.findings) == list(
            range(len(PAIRS) + 1, len(PAIRS) + len(rows) + 1)
        )


def test_a_rejected_answer_may_be_a_bad_one(recipe):
    bad = [compared(42, rejected="so and so " * 60), compared(43, rejected="N/A")]
    dpo = {"training": {"objective": "dpo"}}
    assert survey(recipe(PAIRS + bad).override(dpo), small_chat()).findings.counts == {}
    good = [compared(42, chosen="so and so " * 60), compared(43, chosen="N/A")]
    found = survey(recipe(PAIRS + good).override(dpo), small_chat()).findings.counts
    assert found.keys() == {"loop", "cut_answer", "says_nothing"}


def test_a_fault_of_the_prompt_of_a_pair_is_found_once(recipe):
    rows = [{"prompt": "Fill in {{name}}, please.", "responses": ["a one", "b two", "c three"], "scores": [3, 2, 1]}]
    found = survey(recipe(rows).override({"training": {"objective": "dpo"}}), small_chat()).findings.counts
    assert found == {"placeholder": 1}


def test_answers_that_are_judged_both_ways_are_found(recipe):
    rows = [{"prompt": "A?", "completion": "One, two.", "label": label} for label in (True, False)]
    found = survey(recipe(rows).override({"training": {"objective": "kto"}}), small_chat()).findings.counts
    assert found["contradiction"] == 1


def test_fixed_rows_have_no_finding_that_fix_repairs(recipe, tmp_path):
    rows = [*GOOD, *(row for rows in PLANTED.values() for row in rows)]
    chat = other_template(ODD, max_tokens=600)
    settings = recipe(rows, max_tokens=600)
    before = survey(settings, chat).findings.counts
    *_, done = write_fixed(
        repair_all(settings, stop_tokens=chat.stop_tokens, read_rendered=chat.read_rendered), tmp_path / "fixed.jsonl"
    )
    assert done.left_out >= 5
    fixed = Recipe.from_mapping({"data": {"sources": [str(tmp_path / "fixed.jsonl")], "max_tokens": 600}})
    after = survey(fixed, chat).findings.counts
    repaired = {name for name, kind in KINDS.items() if kind.repaired}
    assert set(KINDS) - {"missing_stop", "token_factor", "accepted_loss", *PLANTED_PAIRS} <= before.keys()
    assert repaired.isdisjoint(after)
