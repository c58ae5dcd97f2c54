from __future__ import annotations

import pytest

from instil.evaluation.language import language_of


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
