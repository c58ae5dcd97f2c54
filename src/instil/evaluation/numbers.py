"""The numeric task: the number that an answer arrives at, as people and models write it.

A text is first rewritten into plain form (``_REWRITES``), then its numbers are read (``_NUMBER``), then one of them is
chosen: where the answer is announced (``_CUES``), or else the last one. Units and percent signs are ignored.

Why: math-verify reads formulas, but misses a third of the numbers that people write (docs/how-it-works/dependencies.md).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from instil.evaluation.answer_words import ANSWER, IS, without_confidence
from instil.evaluation.cases import Case, Scores

MOST_DIGITS = 300
"""Longest number that is read, in digits: an exponent of a billion would fill the memory."""

_SUPERSCRIPTS = str.maketrans("⁺⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "+-0123456789")
_CHARACTERS = str.maketrans(
    {
        **dict.fromkeys("−‐‑–—﹣－", "-"),
        **dict.fromkeys("\u00a0\u2007\u2008\u2009\u200a\u202f\u3000", " "),
        **dict.fromkeys("’＇ʼ", "'"),
        **dict.fromkeys("·⋅∙∗＊", "*"),
        "×": "*",
        "＝": "=",
        "，": ",",
        "．": ".",
        "٫": ".",
        "٬": ",",
        "／": "/",
        "⁄": "/",
        "∕": "/",
        "＋": "+",
        "：": ":",
        "％": "%",
        "＃": "#",
        "（": "(",
        "）": ")",
        "\u200b": "",
        "\u2060": "",
        "\ufeff": "",
    }
)
_GROUP = r"\s{0,3}\{([^{}]{0,200})\}"
_REWRITES: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    # 10³ is a power; the digit in m² is no number.
    (r"[⁺⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+", lambda match: "^" + match[0].translate(_SUPERSCRIPTS)),
    (r"<sup>", "^"),
    # ½ is 1/2, and 1½ is 1 1/2.
    (r"[¼½¾⅐-⅞]", lambda match: " " + unicodedata.normalize("NFKC", match[0]).replace("⁄", "/")),
    # Digits of other scripts.
    (r"(?![0-9])\d", lambda match: str(unicodedata.decimal(match[0]))),
    # Words and font commands around a number: \text{ cm}, \mathbf{5}.
    (rf"\\(?:text|textbf|textit|mathrm|mathbf|mathit|mbox|operatorname|bm){_GROUP}", r" \1 "),
    # \frac{3}{4} and \frac34, alone or after a whole number.
    (rf"(?<=\d)\s?\\[dtc]?frac{_GROUP}{_GROUP}", r" \1/\2"),
    (rf"\\[dtc]?frac{_GROUP}{_GROUP}", r"\1/\2"),
    (r"(?<=\d)\s?\\[dtc]?frac\s?(\d)\s?(\d)", r" \1/\2"),
    (r"\\[dtc]?frac\s?(\d)\s?(\d)", r"\1/\2"),
    # Thousands in LaTeX: 1{,}234, 1,\!234, 1\,234, 1~234.
    (r"\{\s?([,.])\s?\}", r"\1"),
    (r"\\!", ""),
    (r"\\[,;: ]|~|&nbsp;|&thinsp;", " "),
    (r"\\(?:times|cdot|ast)(?![a-z])", "*"),
    (r"\\div(?![a-z])|÷", "/"),
    (r"\\(?:approx|simeq)(?![a-z])", "≈"),
    (r"\\(?:left|right|displaystyle)(?![a-z])|\\[()\[\]]", ""),
    (r"\\(?=[$%#&])", ""),
    # Python's power, then Markdown's signs.
    (r"(?<=\d)\*\*(?=-?\d)", "^"),
    (r"\*\*|__|`|(?<![A-Za-z0-9])_(?=[-$\d])", ""),
    # Exponents and indices in braces: 10^{3}, x_{12}.
    (r"([\^_])\s?\{", r"\1"),
    # The sign before the currency: -$5.
    (r"-\s?([$€£¥₹])\s?(?=\d)", r"\1-"),
    # A word before a number: the point of Rs.500 is no decimal point, USD12 is a number.
    (r"(?<=[A-Za-z])\.(?=\d)", ". "),
    (r"\b(?:US|USD|EUR|GBP|CHF|CNY|RMB|JPY|INR|BRL|R|Rs)(?=[$\d])", " "),
    # A sign in words, or apart from its number.
    (r"(?<!\d)(?<!\d\s)\b(?:minus|negative)\s(?=\d)", "-"),
    (r"([={])\s?-\s(?=\d)", r"\1 -"),
)
_DIGITS = r"(?:\d++(?:[.,'_ ]\d++)*+|\.\d++)"
_SCALES = {
    "hundred": 2,
    "thousand": 3,
    "million": 6,
    "billion": 9,
    "trillion": 12,
    "millionen": 6,
    "milliarden": 9,
    "millones": 6,
    "milhões": 6,
    "milioni": 6,
    "миллион": 6,
    "миллионов": 6,
    "тысяч": 3,
    "nghìn": 3,
    "triệu": 6,
    "lakh": 5,
    "crore": 7,
    "万": 4,
    "萬": 4,
    "만": 4,
    "亿": 8,
    "億": 8,
    "억": 8,
}
"""Powers of ten in words."""
_NUMBER = re.compile(
    rf"""
    (?P<sign>[-+])?
    (?:(?P<whole>\d{{1,6}})[ ](?=\d{{1,6}}[ ]?/[ ]?\d))?  # the 1 of 1 1/2
    (?P<digits>{_DIGITS})
    (?:[ ]?/[ ]?(?P<bottom>{_DIGITS}))?
    (?:
        [eE](?P<e>[-+]?\d++)(?![A-Za-z])
        | [ ]?[*x][ ]?10[ ]?\^[ ]?(?P<ten>[-+]?\d++)
        | [ ]?\^[ ]?(?P<power>[-+]?\d++)
    )?
    (?:[ ]?(?P<scale>{"|".join(sorted(_SCALES, key=len, reverse=True))})s?(?![a-z]))?
    """,
    re.VERBOSE | re.IGNORECASE,
)
_FORMS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), thousands)
    for pattern, thousands in (
        (r"\d*\.?\d+", ""),  # 12, 3.5, .5
        (r"(?!0)\d{1,3}(?:,\d{3})+(?:\.\d+)?", ","),  # 1,234.5
        (r"(?!0)\d{1,2}(?:,\d{2})+,\d{3}(?:\.\d+)?", ","),  # 12,34,567 as in India
        (r"(?!0)\d{1,3}(?:(?:\.\d{3})+,\d+|(?:\.\d{3}){2,})", "."),  # 1.234,5 and 1.234.567
        (r"(?!0)\d{1,3}(?: \d{3})+(?:[.,]\d+)?", " "),  # 1 234,5
        (r"(?!0)\d{1,3}(?:'\d{3})+(?:[.,]\d+)?", "'"),  # 1'234.5 as in Switzerland
        (r"\d+(?:_\d+)+", "_"),  # 1_000 as in Python
        (r"\d+,\d+", ""),  # 3,5
    )
)
"""How digits are written, and the mark between thousands. The first form that fits counts; a comma left is decimal."""
_BEFORE = re.compile(
    r"(?:[A-Za-z]|\w_|[\^/]|√\s?|sqrt\s?\{?|(?:\bnot|n't|nicht|instead of|rather than)\s[$€£¥₹]?)$", re.IGNORECASE
)
"""What stands before digits that are no number of their own: H2, x_1, m^2, sqrt(2), "not 5"."""
_AFTER = re.compile(r"\s?(?:/\d|/\s?\\|\\sqrt|√|\\pi(?![a-z])|π)")
"""What stands after digits that are part of something else: a date, or a factor of a root or of pi."""
_PAIR = re.compile(r"[(\[]\d+,\d{1,2}[)\]]")
"""Two numbers, as a point or an interval; in other places 3,5 is three and a half."""
_CUES: tuple[tuple[re.Pattern[str], re.Pattern[str]], ...] = (
    (re.compile(r"####"), re.compile(r"[^\w\n]{0,5}")),
    (re.compile(r"\\f?boxed\s?"), re.compile(r".*", re.DOTALL)),
    (re.compile(rf"{ANSWER}{IS}", re.IGNORECASE), re.compile(r"[^.!?;]{0,40}")),
)
"""What announces the answer, and what may stand between it and the number."""
_MOST_CUES = 20
_LONGEST_ANNOUNCED = 1_000
_TAIL = 4_000
_EQUALS = re.compile(r"[\s)]{0,3}(?:[^\W\d]{1,15}\s?|%\s?)?=\s?[$€£¥₹]?")
_OF = re.compile(r"%?\s(?:of|von|de|из)\s[$€£¥₹]?")
_OPERATOR = re.compile(r"[\s)]{0,3}(?:[^\W\d]{1,15}\s?|%\s?)?[-+*x/:]\s?[$€£¥₹(]{0,2}", re.IGNORECASE)
_OR_WORD = r"(?:or|and|to|oder|und|ou|et|o|y|или|и|или|或|または|hay|또는)"
_OR = re.compile(rf"[%€]?\s?(?:,|{_OR_WORD})?\s?[$€£¥₹]?", re.IGNORECASE)
_OPEN_END = re.compile(rf"[%€]?\s?(?:{_OR_WORD}\s?(?:[a-z]\s?=\s?)?|:)[$€£¥₹]?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Written:
    """A number and the half-open span of its characters."""

    value: Fraction
    start: int
    end: int


def final_number(text: str) -> Fraction | None:
    r"""Return the result of a text: the number after ``####``, in ``\boxed{}``, after "answer is", or the last one.

    None: there is no number, or the text leaves it open ("3 or 4", "10-12" after "answer is").

    Example:
        >>> final_number("3 bags of 1,200 are 3600.\n#### 3,600")
        Fraction(3600, 1)
        >>> final_number("so it costs $4.50."), final_number(r"\boxed{1\frac{1}{2}}"), final_number("1.5 × 10³")
        (Fraction(9, 2), Fraction(3, 2), Fraction(1500, 1))
        >>> final_number("none") is None
        True
    """
    text = _plain(text)
    for part in dict.fromkeys((without_confidence(text), text)):
        announced = _announced(part)
        if announced:
            return _result(*announced)
        numbers = _last_numbers(part)
        if numbers:
            is_open = len(numbers) > 1 and _OPEN_END.fullmatch(part, numbers[-2].end, numbers[-1].start)
            return None if is_open else numbers[-1].value
    return None


def judge_number(case: Case) -> Scores | None:
    """Score 1 if answer and reference have the same final number."""
    expected = None if case.reference is None else final_number(case.reference)
    if expected is None:
        return None
    found = final_number(case.prediction)
    return {"numeric": float(found == expected), "has_number": float(found is not None)}


def _plain(text: str) -> str:
    """Return the text in the form that numbers are read in; see `_REWRITES`."""
    text = text.translate(_CHARACTERS)
    for pattern, replacement in _REWRITES:
        text = re.sub(pattern, replacement, text)
    return text


def _announced(text: str) -> tuple[str, Sequence[_Written]] | None:
    """Return the text after the last cue that has a number, and its numbers. The kinds of cues come in their order."""
    for cue, between in _CUES:
        for announcement in list(cue.finditer(text))[: -_MOST_CUES - 1 : -1]:
            content = _content(text, announcement.end())
            numbers = list(_numbers(content))
            if numbers and between.fullmatch(content, 0, numbers[0].start):
                return content, numbers
    return None


def _last_numbers(text: str) -> Sequence[_Written]:
    """Return the last numbers of a text with the spans they have in it, at least two if there are two."""
    size = _TAIL
    while True:
        start = max(0, len(text) - size)
        numbers = list(_numbers(text, start))
        # The first number of a tail may be the end of a longer one.
        if start == 0 or len(numbers) > 2:
            return numbers
        size *= 8


def _content(text: str, start: int) -> str:
    """Return what a cue announces: what is in its braces, the rest of its line, or a single number on the next line."""
    text = text[start : start + _LONGEST_ANNOUNCED]
    if text.startswith("{"):
        depth = 0
        for position, char in enumerate(text):
            depth += (char == "{") - (char == "}")
            if depth == 0:
                return text[1:position]
    line, _, rest = text.partition("\n")
    if any(char.isalnum() for char in line):
        return line
    following = rest.lstrip("\n $*[").partition("\n")[0]
    return following if len(list(_numbers(following))) == 1 else ""


def _result(text: str, numbers: Sequence[_Written]) -> Fraction | None:
    """Return the first number, or the last one of its equation; None for an open "5 + 7", "3 or 4" and "10-12"."""
    value, is_open = numbers[0].value, False
    for left, right in pairwise(numbers):
        between = (left.end, right.start)
        if _EQUALS.fullmatch(text, *between):
            value, is_open = right.value, False
        elif _OPERATOR.fullmatch(text, *between) or _OR.fullmatch(text, *between):
            is_open = True
        elif not _OF.fullmatch(text, *between):  # 20% of 50 = 10
            break
    return None if is_open else value


def _numbers(text: str, begin: int = 0) -> Iterator[_Written]:
    """Yield the numbers of a text in plain form, from an index on."""
    for match in _NUMBER.finditer(text, begin):
        start = match.start()
        before = text[max(0, start - 13) : start]
        # A minus after a digit, letter or bracket is a subtraction or a hyphen, not a sign.
        is_operator = match["sign"] and re.search(r"(?:[\w)%]|\d\s)$", before)
        if is_operator:
            start += 1
        elif _BEFORE.search(before):
            continue
        if _AFTER.match(text, match.end()):
            continue
        sign = -1 if match["sign"] == "-" and not is_operator else 1
        value = None if _PAIR.match(text, max(0, start - 1)) else _value(match)
        if value is not None:
            yield _Written(sign * value, start, match.end())
        elif not match["bottom"]:
            yield from _listed(match)


def _listed(match: re.Match[str]) -> Iterator[_Written]:
    """Yield the numbers of a list without a form of its own: ``1,2,3``, ``2019 345``."""
    for piece in re.finditer(r"[^ ,'_]+", match["digits"]):
        value = _digits_value(piece[0])
        if value is not None and piece[0] != match["digits"]:
            yield _Written(value, match.start("digits") + piece.start(), match.start("digits") + piece.end())


def _digits_value(digits: str) -> Fraction | None:
    """Return the value of digits with marks; None if they have no form of `_FORMS`, or are too many."""
    if len(digits) > MOST_DIGITS:
        return None
    for form, thousands in _FORMS:
        if form.fullmatch(digits):
            return Fraction(digits.replace(thousands, "").replace(",", "."))
    return None


def _value(match: re.Match[str]) -> Fraction | None:
    """Return the value of a match of `_NUMBER` without its sign; None if it has none that can be computed."""
    value = _digits_value(match["digits"])
    bottom = _digits_value(match["bottom"] or "1")
    exponent = _small_integer(match["e"] or match["ten"] or "0")
    power = _small_integer(match["power"] or "1")
    if value is None or not bottom or exponent is None or power is None:
        return None
    if abs(power) * len(match["digits"]) > MOST_DIGITS or (power < 0 and not value):
        return None
    whole = int(match["whole"] or 0)
    tens = exponent + _SCALES.get((match["scale"] or "").casefold(), 0)
    return (whole + value**power / bottom) * Fraction(10) ** tens


def _small_integer(digits: str) -> int | None:
    """Return an exponent; None if it is beyond `MOST_DIGITS`."""
    return int(digits) if len(digits) <= 4 and abs(int(digits)) <= MOST_DIGITS else None
