"""Classification, extraction, translation, summaries, code, constraints, behaviour, language."""

from __future__ import annotations

import time

import pytest
from tests.evaluation.cases import case

from instil.errors import EvaluationError
from instil.evaluation.behaviour import judge_behaviour
from instil.evaluation.classification import confusion, label_in, macro_f1, make_judge
from instil.evaluation.code_running import code_in, compiles, passes
from instil.evaluation.constraints import CHECKS, judge_constraints
from instil.evaluation.extraction import field_f1
from instil.evaluation.extraction import make_judge as make_json_judge
from instil.evaluation.language import language_of
from instil.evaluation.tasks import TaskOptions, make_tasks
from instil.evaluation.writing_scores import judge_summary, translation_details, translation_figures

LABELS = ["negative", "neutral", "positive"]


def test_macro_f1_equals_scikit_learn():
    sklearn = pytest.importorskip("sklearn.metrics")
    wanted = ["positive"] * 6 + ["negative"] * 3 + ["neutral"] * 2
    said = ["positive"] * 4 + ["negative", "It is neutral."] + ["negative", "positive", "rubbish"] + ["neutral"] * 2
    cases = [case(a, b) for a, b in zip(said, wanted, strict=True)]
    chosen = [label_in(text, LABELS) for text in said]
    expected = sklearn.f1_score(wanted, chosen, average="macro", labels=LABELS)
    figure = macro_f1(cases)["macro_f1"]
    assert figure.value == pytest.approx(expected)
    assert figure.low <= figure.value <= figure.high
    assert make_judge(LABELS)(cases[5])["accuracy"] == 0
    matrix = confusion(cases)
    assert matrix["labels"] == [*LABELS, "(none)"]
    assert matrix["confusion"] == [[1, 0, 1, 1], [0, 2, 0, 0], [1, 1, 4, 0]]


def test_a_label_inside_another_is_not_two_labels():
    assert label_in("very good", ["good", "very good"]) == "very good"
    assert label_in("It was very good!", ["good", "very good"]) == "very good"
    assert label_in("goodness", ["good"]) == "(none)"


SCHEMA = {
    "type": "object",
    "required": ["name"],
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
}


@pytest.mark.parametrize(
    ("said", "scores"),
    [
        ('{"name": "Ada", "age": 36}', (1, 1, 1, 1)),
        ('```json\n{"age": 36, "name": "ada"}\n```', (1, 1, 1, 1)),
        ('{"name": "Ada"}', (1, 1, 2 / 3, 0)),
        ('{"age": "36", "name": "Ada"}', (1, 0, 1, 1)),
        ('{"first": "Ada"}', (1, 0, 0, 0)),
        ('{"name": "Ada"', (0, 0, 0, 0)),
        ("Ada", (0, 0, 0, 0)),
        ('"Ada"', (0, 0, 0, 0)),
    ],
)
def test_extraction_is_judged_by_validity_schema_and_fields(said, scores):
    found = make_json_judge(SCHEMA)(case(said, '{"name": "Ada", "age": 36}'))
    names = ("valid_json", "matches_schema", "field_f1", "all_fields")
    assert [found[name] for name in names] == pytest.approx(scores)


def test_a_rows_own_schema_wins_and_a_wrong_schema_is_refused():
    judge = make_json_judge(SCHEMA)
    assert judge(case("[1]", schema={"type": "array"}))["matches_schema"] == 1
    assert make_json_judge(None)(case("x", "plain text")) is None
    with pytest.raises(EvaluationError, match=r"schema is invalid .* Expected a JSON schema"):
        make_json_judge({"type": "objekt"})


def test_lists_are_compared_without_order():
    assert field_f1({"a": [1, 2]}, {"a": [2, 1]}) == 1
    assert field_f1([], []) == 1


def test_translation_figures_are_sacrebleus_own():
    sacrebleu = pytest.importorskip("sacrebleu")
    pairs = [
        ("the cat sat on the mat", "the cat sat on the mat"),
        ("a dog ran away fast", "the dog ran away quickly"),
    ] * 5
    cases = [case(a, b) for a, b in pairs]
    figures = translation_figures(cases)
    predictions, references = [a for a, _ in pairs], [[b for _, b in pairs]]
    assert figures["bleu"].value == sacrebleu.corpus_bleu(predictions, references).score
    assert figures["chrf"].value == sacrebleu.corpus_chrf(predictions, references).score
    assert all(each.low <= each.value <= each.high for each in figures.values())
    assert "tok:13a" in translation_details(cases)["signatures"]["bleu"]


def test_rouge_of_equal_texts_is_one():
    pytest.importorskip("rouge_score")
    assert judge_summary(case("A cat sat. It slept.", "A cat sat. It slept."))["rougelsum"] == 1
    assert judge_summary(case("x", "A cat sat."))["rouge1"] == 0


def test_code_compiles_or_not():
    assert compiles("x = 1")
    assert not compiles("x = = 1")
    assert not compiles("x = '\0'")
    assert code_in("Sure:\n```python\nx = 1\n```\nand\n```\ny = 2\n```") == "x = 1\n\ny = 2\n"


def test_unit_tests_run_apart_with_limits(tmp_path, monkeypatch):
    monkeypatch.setenv("INSTIL_SECRET", "1")
    good = "def add(a, b):\n    return a + b"
    assert passes(good, "assert add(1, 2) == 3")
    assert not passes(good, "assert add(1, 2) == 4")
    assert passes("import os", "assert 'INSTIL_SECRET' not in os.environ and not os.listdir('.')[1:]")
    assert not passes("import socket", "socket.create_connection(('127.0.0.1', 9))")
    assert not passes("x = bytearray(4 * 2**30)", "", seconds=5)
    start = time.monotonic()
    assert not passes("while True: pass", "", seconds=1)
    assert time.monotonic() - start < 5


def test_tests_run_only_where_asked():
    row = case("```python\ndef f():\n    return 1\n```", test_list=["assert f() == 2"])
    (quiet, _), (running, _) = (make_tasks(["code"], TaskOptions(run_code=run)) for run in (False, True))
    assert quiet.judge(row) == {"compiles": 1.0}
    assert running.judge(row) == {"compiles": 1.0, "passes_tests": 0.0}


KEPT = [
    ("max_words", 3, "one two three", "one two three four"),
    ("min_words", 2, "one two", "one"),
    ("max_sentences", 1, "One.", "One. Two."),
    ("min_sentences", 2, "One. Two!", "One"),
    ("max_characters", 3, "abc", "abcd"),
    ("num_items", 2, "- a\n- b", "- a"),
    ("num_paragraphs", 2, "a\n\nb", "a\nb"),
    ("must_include", "Nile", "the nile", "the Rhine"),
    ("must_not_include", "Nile", "the Rhine", "the nile"),
    ("starts_with", "Yes", "Yes, so", "No"),
    ("ends_with", "!", "so! ", "so"),
    ("matches", r"^\d+$", "42", "42a"),
    ("json", None, "[1]", "[1"),
    ("no_commas", None, "a b", "a, b"),
    ("upper_case", None, "ABC", "Abc"),
    ("lower_case", None, "abc", "Abc"),
    ("language", "fr", "Le chat est sur la table et il dort dans la maison", "The cat is on the table"),
]


@pytest.mark.parametrize(("kind", "value", "good", "bad"), KEPT)
def test_constraints_are_checked(kind, value, good, bad):
    constraint = [{"kind": kind, "value": value}]
    assert judge_constraints(case(good, constraints=constraint))["all_kept"] == 1
    assert judge_constraints(case(bad, constraints=constraint))["all_kept"] == 0


def test_a_list_of_words_asks_for_all_of_them_or_for_none():
    judged = [
        judge_constraints(case("Red and blue.", constraints=[{"kind": kind, "value": words}]))["all_kept"]
        for kind in ("must_include", "must_not_include")
        for words in (["red", "blue"], ["red", "green"], ["green", "grey"])
    ]
    assert judged == [1, 0, 0, 0, 0, 1]


@pytest.mark.parametrize(
    "kind", ["must_include", "must_not_include", "starts_with", "ends_with", "matches", "language"]
)
@pytest.mark.parametrize("value", [None, {"word": "red"}, [1]])
def test_a_value_that_no_answer_could_hold_is_no_score_of_zero(kind, value):
    with pytest.raises(EvaluationError, match=f"the constraint {kind} has the value .* Expected a "):
        judge_constraints(case("None [1]", constraints=[{"kind": kind, "value": value}]))


def test_every_constraint_has_a_case():
    assert {kind for kind, *_ in KEPT} == set(CHECKS)


def test_an_unknown_constraint_is_named_with_the_nearest():
    with pytest.raises(EvaluationError, match="did you mean 'max_words'"):
        judge_constraints(case("x", constraints=[{"kind": "max_word", "value": 1}]))
    with pytest.raises(EvaluationError, match=r"max_words has the value 'many'\. Expected a whole number"):
        judge_constraints(case("x", constraints=[{"kind": "max_words", "value": "many"}]))


def test_behaviour_counts_stop_tokens_and_repeats():
    assert judge_behaviour(case("fine")) == {"stops": 1.0, "not_empty": 1.0, "no_repeats": 1.0}
    assert judge_behaviour(case("on and on and " * 20, stop_id=None)) == {
        "stops": 0.0,
        "not_empty": 1.0,
        "no_repeats": 0.0,
    }


@pytest.mark.parametrize(
    ("text", "fine"),
    [
        ("So 15" + "0" * 60, 0.0),
        ("答案是" + "一样的" * 20, 0.0),
        ("- one\n" * 8, 0.0),
        ("She pays $1,000,000 in total. " + "-" * 20, 1.0),
        ("", 1.0),
    ],
)
def test_loops_without_spaces_count_as_repeats(text: str, fine: float):
    assert judge_behaviour(case(text))["no_repeats"] == fine


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("The capital of France is Paris.", "en"),
        ("Die Hauptstadt von Frankreich ist Paris.", "de"),
        ("La capital de España es Madrid y está en el centro.", "es"),
        ("La capitale della Francia è una città con il fiume.", "it"),
        ("東京は日本の首都です。", "ja"),
        ("北京是中国的首都。", "zh"),
        ("Москва столица России", "ru"),
        ("12 + 3 = 15", "unknown"),
        ("Paris", "unknown"),
    ],
)
def test_language_is_guessed_or_unknown(text, code):
    assert language_of(text) == code


def test_an_unknown_task_is_named_with_the_nearest():
    with pytest.raises(EvaluationError, match="did you mean 'exact_match'"):
        make_tasks(["exactmatch"], TaskOptions())
