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
        ("y = 3x + 2", "unknown"),
        ("def largest(numbers):\n    best = numbers[0]\n    return max(best, *numbers)", "code"),
        ("# Return the largest number of the list.\nfor n in range(3):\n    print(n)", "code"),
        ("function add(first, second) {\n  return first + second;\n}", "code"),
        ('#include <stdio.h>\nint main(void) {\n  printf("the end");\n}', "code"),
        ("SELECT name, age\nFROM people\nWHERE age > 3;", "code"),
        ("```python\nx = 3\n```", "code"),
        ("What does this program print for the number three?\n\ndef f(x):\n    return x + 1\nprint(f(3))", "en"),
        ("Was gibt dieses Programm für die Zahl drei aus?\n```\nprint(the_name_of_it)\n```", "de"),
        ("Paris", "unknown"),
    ],
)
def test_language_is_guessed_or_unknown(text, code):
    assert language_of(text) == code
