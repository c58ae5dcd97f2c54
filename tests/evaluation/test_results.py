"""The results of an evaluation in a notebook: every figure of every model, the comparison, on one line the main ones."""

from __future__ import annotations

from dataclasses import replace

from tests.evaluation.cases import talk
from tests.views.parsed import assert_harmless, text_of

from instil.evaluation.evaluate import evaluate
from instil.evaluation.intervals import show
from instil.evaluation.report import to_markdown
from instil.generation.prompts import prompts_of
from instil.generation.settings import SamplingSettings
from instil.views.turns import LINE


def test_the_table_has_the_figures_of_the_report(tuned, base, prompts):
    evil = prompts_of(talk(("</script><script>alert(1)</script>", "<b>|x</b>")))
    result = evaluate(
        tuned, [*prompts, *evil], tasks=["exact_match", "classification"], against=base, data="<b>rows</b>",
        settings=SamplingSettings(max_new_tokens=20),
    )  # fmt: skip
    page = result._repr_html_()
    text = text_of(page)
    figures = [
        show(name, figure)
        for model in (result.model, result.against)
        for by_name in model.figures.values()
        for name, figure in by_name.items()
    ]
    assert len(figures) > 4
    markdown = to_markdown(result)
    for figure in figures:
        assert figure in text
        assert figure in markdown
    compared = result.comparisons["exact_match"]
    for words in (
        "loss per trained token",
        "<b>rows</b>",
        "9 prompts",
        str(compared.verdict),
        compared.change,
        compared.p,
    ):
        assert words in text, words
    assert page.count("<table>") == 1  # every group is small
    assert "groups with fewer than 20 prompts" in text
    assert repr(result).startswith(f"Evaluation({tuned.name} on <b>rows</b>, against {base.name}"[: LINE - 2])
    for record in (result, result.model, replace(result, against=None)):
        assert "\n" not in repr(record)
        assert len(repr(record)) <= LINE
        assert_harmless(record._repr_html_())
    assert "9 answers" in repr(replace(result.model, name="m", figures={}))


def test_what_was_left_out_is_marked(tuned, prompts):
    result = evaluate(tuned, prompts, tasks=["exact_match"], settings=SamplingSettings(max_new_tokens=4))
    noted = replace(result, length_notes=["<i>3 prompts</i> are left out"])
    assert '<div class="warn">&lt;i&gt;3 prompts' in noted._repr_html_()
    figure = result.figures["exact_match"]
    long = replace(result, data="rows", model=replace(result.model, name="m"))
    assert repr(long).startswith(f"Evaluation(m on rows, 8 prompts, exact_match {show('exact_match', figure)}")


def test_answers_that_are_no_text_are_named_with_their_reason(tuned, prompts):
    result = evaluate(tuned, prompts, tasks=["exact_match"], settings=SamplingSettings(max_new_tokens=4))
    answers = [replace(case, answer=replace(case.answer, text="plain")) for case in result.model.answers]
    assert replace(result, model=replace(result.model, answers=answers)).notes == []
    answers[1:3] = [replace(case, answer=replace(case.answer, text="北\ufffd")) for case in answers[1:3]]
    (note,) = replace(result, model=replace(result.model, answers=answers)).notes
    assert note.startswith(f"2 of {len(answers)} answers of {tuned.name} have \ufffd: bytes that are no character")
