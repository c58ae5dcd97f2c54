"""ROUGE and BLEU of scripts other than Latin: a perfect answer has the full score, and a wrong one has none."""

from __future__ import annotations

import pytest
from tests.evaluation.cases import case

from instil.evaluation.writing_scores import judge_summary, translation_details, translation_figures

PERFECT = {
    "zh": "今天天气很好。我们去公园散步吧。",
    "ja": "今日は天気がいいので、公園に行きます。",
    "ru": "Сегодня хорошая погода, и мы идём в парк.",
    "hi": "आज मौसम अच्छा है और हम बगीचे जा रहे हैं।",
    "th": "วันนี้อากาศดีมาก เราไปสวนกันเถอะ",
    "en": "The weather is fine today, so we go to the park.",
}


@pytest.mark.slow
@pytest.mark.parametrize("text", PERFECT.values(), ids=PERFECT)
def test_a_text_equals_itself(text: str) -> None:
    scores = judge_summary(case(text, text))
    assert scores is not None
    assert set(scores.values()) == {1.0}
    assert translation_figures([case(text, text)])["bleu"].value == pytest.approx(100)


@pytest.mark.parametrize("language", ["zh", "ru", "hi"])
def test_another_text_does_not(language: str) -> None:
    other = judge_summary(case(PERFECT["en"], PERFECT[language]))
    assert other is not None
    assert set(other.values()) == {0.0}


def test_the_signature_names_the_tokenizer() -> None:
    signatures = translation_details([case(PERFECT["zh"], PERFECT["zh"])])["signatures"]
    assert "tok:zh" in signatures["bleu"]
