"""The choice task: the letter that an answer chooses, as people and models write it.

Every letter that may name a choice is looked at with the words before and after it. ``_RANKS`` is the table of what
makes it the chosen one. Letters that are denied ("A is wrong", "not B") or joined ("A or B") are left out.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

from instil.evaluation.answer_words import ANSWER, IS, without_confidence
from instil.evaluation.cases import Case, Scores
from instil.evaluation.matching import named_in, normalise

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_WITHOUT_CHOICES = LETTERS[:10]
_MOST_MENTIONS = 200

_CYRILLIC = str.maketrans("АБВГДЕСабвгдес", "ABCDEFCabcdefc")
_FONTS = r"\\(?:text|textbf|textit|mathrm|mathbf|mathit|mathsf|mbox|operatorname|bm)(?![a-z])"
_REWRITES = (
    # Ｃ, Ⓒ, ⒞, 🅲 and bold letters of mathematics.
    (r"[\uff01-\uff5e\u2460-\u24ff\U0001d400-\U0001d7ff\U0001f110-\U0001f189]", lambda match: _compatible(match[0])),
    # The letters of Russian choices, in their own order. С is a Latin C by mistake: it is not among the first ten.
    (r"(?<!\w)[АБВГДЕСабвгдес](?!\w)", lambda match: match[0].translate(_CYRILLIC)),
    # What is struck out, then signs of Markdown and HTML.
    (r"~~[^~\n]{1,200}~~", " "),
    (r"<answer>", "\nanswer: "),
    (r"</?(?:answer|b|strong|i|em|u|code|mark|p|br|span)\s?/?>", " "),
    (r"[*`$]|(?<!\w)_{1,3}|_{1,3}(?!\w)", ""),
    # \boxed{\text{(C)}} announces an answer, and so does a line "#### C".
    (r"\\f?boxed(?![a-z])", " answer: "),
    (r"####(?=\W{0,6}\w\W{0,3}(?:\n|$))", "answer: "),
    (rf"{_FONTS}|\\[()\[\]]|[{{}}]", " "),
    (r"^[#>\s]{1,20}", ""),
)

_OPTION = (
    r"(?:(?<![^\W_])(?:options?|choices?|letter|alternative|statement|opci[oó]n|opção|alternativa|letra|lettre|opzione"
    r"|lettera|buchstabe|вариант|буква|phương án|câu|pilihan|opsi)(?![^\W\d_])|选项|選項|選択肢|보기)"
)
_LEAD = (
    rf"[\s,:：\-–—=]{{0,4}}(?:(?:the|an?|la|le|el|die|der|either|both|clearly|definitely|probably)\s)?"
    rf"(?:(?:{_OPTION}|answer|answers)[\s:：]{{0,3}})?[\s(\[\"'“‘「『【（]{{0,3}}$"
)
_CUE = re.compile(rf"{ANSWER}{IS}{_LEAD}", re.IGNORECASE)
_OPTION_IS = re.compile(
    rf"{_OPTION}(?:\s(?:here\s)?(?:is|ist|est|es|é|è|adalah|là|would be|should be)|\s?[:=：]|是|为|為|は|은|는){_LEAD}",
    re.IGNORECASE,
)
_WRONG = re.compile(
    r"(?:wrong|incorrect|false|falsche|falsa|неправильный)\s(?:[^\W\d_]{1,15}\s){0,2}[^.\n]{0,30}$", re.IGNORECASE
)
_VERB = re.compile(
    r"(?:(?<![^\W_])(?:choose|chose|choosing|pick|picking|select|selecting|go with|going with|opt for|vote for|say|guess"
    r"|think|believe|it['’]s|it is|this is|that is|c['’]est|es|ist|be|probably|definitely|certainly|surely|okay|ok|leaves|so|thus|hence|therefore|but|wähle"
    r"|nehme|choisis|elijo|escojo|escolho|scelgo|выбираю|chọn|pilih)(?![^\W\d_])|[→⇒]|->|=>|选择?|選択?|選擇)" + _LEAD,
    re.IGNORECASE,
)
_NAMED = re.compile(rf"(?:{_OPTION}|{ANSWER})[\s:：]{{0,2}}[(\[\"'“‘「【]{{0,2}}$", re.IGNORECASE)
_CLOSE = r"[)\]）】」』\"'”’]{0,3}"
_RIGHT = (
    r"(?:correct|right|best|answer|accurate|appropriate|suitable|likely|fits|matches|richtig|korrekt|correct[eao]|bonne|cierta|certa|corretta|giusta|верн|правильн|đúng"
    r"|benar|正确|正確|正しい|正解|对的|對的|정답|맞)"
)
_VERDICT = re.compile(
    rf"{_CLOSE}\s?(?:选项|選項)?(?:(?:is|are|seems|looks|appears|must be|would be|ist|est|es|é|è|adalah|là|это|[-–—])\s"
    rf"(?:to be\s)?(?:[^\W\d_]{{1,12}}ly\s)?(?:(?:the|la|der|die|das|a|o|il|câu)\s)?"
    rf"(?:(?:most|only|single|one|réponse|respuesta|resposta|risposta|answer)\s)?|[是がは이가]?最?|\s(?=fits|matches))"
    rf"{_RIGHT}(?![^.\n]{{0,20}}\?)",
    re.IGNORECASE,
)
_END = re.compile(rf"{_CLOSE}\s?[.!。．]?{_CLOSE}\s*(?:\n|$)")
_SET_OFF = re.compile(
    rf"{_CLOSE}(?:\s?[).:;!。．：、，）]|,\s|\s[-–—]\s|\s\(|\s?\?\s*$|\s?\n|\s?$"
    r"|,?\s(?:because|since|as|weil|car|parce|porque|perché|потому|vì|karena)(?![^\W_])|因为|因為)",
    re.IGNORECASE,
)
_AFTER_A_WORD = re.compile(
    r"\s(?!(?:is|was|as|because|since|which|with|for|or|and|but|not|rather|seems|must|would|in my|ist|est|es|é|è|oder|und"
    r"|ou|et|o|y|weil|car|porque|perché|là|adalah)(?![^\W\d_]))[^\W\d_]",
    re.IGNORECASE,
)
"""A letter that is also a word ("A dog", "I think") is no choice before these."""
_DENIED_AFTER = re.compile(
    rf"{_CLOSE}\s?(?:(?:is|are|was|does|do|can|could|would|seems?|ist|est|es|é|è|là|—|-)\s?(?:n['’]t|(?:[^\W\d_]{{1,12}}ly\s"
    r"|also\s|just\s)?(?:not(?! only)|wrong|incorrect|false|impossible|out(?![^\W\d_])|ruled out|eliminated|excluded|falsch|faux|fausse"
    r"|incorrect[oa]|falsa|errada|sbagliat|не|sai|nicht|pas))|can['’]t|(?:adalah\s)?salah|не|是?[不错錯誤误])",
    re.IGNORECASE,
)
_DENIED_BEFORE = re.compile(
    r"(?:(?<![^\W_])(?:not|never|neither|nor|except|rather than|instead of|eliminated?|excluded?|rule out|ruled out|nicht"
    r"|pas|no es|не)|n['’]t|不是|不选|不選|排除)\s{0,2}(?:(?:be|the|la|das|choose|pick|select|go with)\s){0,2}(?:(?:option|choice|answer|letter)\s)?"
    r"[(\[\"'“]?$",
    re.IGNORECASE,
)
_OR = re.compile(rf"{_CLOSE}\s?(?:and/or|/|or|oder|ou|o|или|或|または|hay|또는)\s?{_LEAD}", re.IGNORECASE)
_AND = re.compile(rf"{_CLOSE}\s?(?:[,、，&+]|,?\s?(?:and|und|et|y|e|и|和|及|と|và|dan))?\s?{_LEAD}", re.IGNORECASE)
_SUBJECT = re.compile(
    rf"{_CLOSE}\s(?:is|was|has|does|would|could|can|gives|says|ist|est|es)(?![^\W\d_])", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class _Mention:
    """A letter that may name a choice, with the text around it.

    Attributes:
        label: The label of the choice.
        start: Index of the letter.
        before: At most 100 characters before it.
        after: At most 100 characters after it.
    """

    label: str
    start: int
    before: str
    after: str

    @property
    def is_bracketed(self) -> bool:
        """Whether it is written (b), [b] or b)."""
        return bool(re.match(r"\s?[)\]）】]", self.after))

    @property
    def begins_line(self) -> bool:
        """Whether it stands at the start of a line and apart from what follows."""
        starts_clause = _SUBJECT.match(self.after)
        return not starts_clause and bool(
            re.search(r"(?:^|\n)[\s(\[\"'“‘「【（•-]*$", self.before) and _SET_OFF.match(self.after)
        )


def choices_of(columns: Mapping[str, Any]) -> dict[str, str]:
    """Return the choices of a row by their labels; without labels of one character they are called A, B, C ….

    They come from a list of texts or of mappings, from a mapping with ``text`` and ``label`` (ARC) or with labels as
    keys, or from columns ``A`` to ``D``.

    Example:
        >>> choices_of({"choices": {"text": ["Rome", "Oslo"], "label": ["1", "2"]}})
        {'1': 'Rome', '2': 'Oslo'}
        >>> choices_of({"options": {"B": "Rome", "A": "Oslo"}}), choices_of({"endings": ["x", "y"]})
        ({'B': 'Rome', 'A': 'Oslo'}, {'A': 'x', 'B': 'y'})
    """
    choices = next((columns[key] for key in ("choices", "options", "endings") if columns.get(key)), None)
    if choices is None and all(isinstance(columns.get(key), str) for key in "ABC"):
        choices = {key: columns[key] for key in LETTERS if isinstance(columns.get(key), str)}
    labels: Any = None
    if isinstance(choices, Mapping) and "text" in choices:
        choices, labels = choices["text"], choices.get("label")
    elif isinstance(choices, Mapping):
        choices, labels = list(choices.values()), list(choices)
    if not isinstance(choices, Sequence) or isinstance(choices, str):
        return {}
    if all(isinstance(choice, Mapping) and "text" in choice for choice in choices):
        labels = [choice.get("label") for choice in choices]
        choices = [choice["text"] for choice in choices]
    # A set of labels that is not one distinct character per choice cannot be told apart in an answer.
    names = [str(label).strip("(). ").upper() for label in labels] if isinstance(labels, Sequence) else []
    if len(names) != len(choices) or len(set(names)) != len(names) or any(len(name) != 1 for name in names):
        names = list(LETTERS)
    return {name: str(choice) for name, choice in zip(names, choices, strict=False)}


def chosen_letter(text: str, choices: Mapping[str, str] | None = None) -> str | None:
    """Return the label of the choice that an answer makes, by its letter or by the text of one choice.

    None: no choice is made, or it stays open ("A or B").

    Args:
        text: The answer.
        choices: Text of each choice by label, from `choices_of`. Without them, A to J are letters of choices.

    Example:
        >>> chosen_letter("(B) because"), chosen_letter("Option A is wrong. The correct answer is **C**.")
        ('B', 'C')
        >>> chosen_letter("It is paris", {"A": "Rome", "B": "Paris"})
        'B'
        >>> chosen_letter("A dog barked") is None
        True
    """
    choices = choices or {}
    labels, texts = list(choices), [normalise(choice) for choice in choices.values()]
    plain = normalise(text)
    if len(plain) > 1 and texts.count(plain) == 1:
        return labels[texts.index(plain)]
    readable = without_confidence(_plain(text))
    letter = _best_letter(readable, choices)
    if letter:
        return letter
    # What is announced as the answer decides before what else is named.
    announced = list(re.finditer(rf"{ANSWER}{IS}([^.\n]*)", readable, re.IGNORECASE))[-1:]
    for part in [normalise(match[1]) for match in announced] + [plain]:
        named = named_in(part, texts)
        if len(named) == 1:
            return labels[named[0]]
    return None


def judge_choice(case: Case) -> Scores | None:
    """Score 1 if answer and reference choose the same choice."""
    if case.reference is None:
        return None
    choices = choices_of(case.columns)
    reference = case.reference.strip()
    expected = reference if reference in choices else chosen_letter(reference, choices)
    # Some data sets name the right choice by its index, counted from 0.
    if expected is None and re.fullmatch("[0-9]{1,2}", reference) and int(reference) < len(choices):
        expected = list(choices)[int(reference)]
    if expected is None:
        return None
    chosen = chosen_letter(case.prediction, choices)
    return {"choice": float(chosen == expected), "has_choice": float(chosen is not None)}


def _compatible(char: str) -> str:
    return unicodedata.normalize("NFKC", char)


def _plain(text: str) -> str:
    """Return the text in the form that letters are looked for in; see `_REWRITES`."""
    for pattern, replacement in _REWRITES:
        text = re.sub(pattern, replacement, text)
    return text


def _best_letter(text: str, choices: Mapping[str, str]) -> str | None:
    """Return the label that is chosen most clearly, the last one of several; None if there is none."""
    mentions = _mentions(text, "".join(choices) or _WITHOUT_CHOICES)
    ranked = [(_rank(mention, choices), mention) for mention in mentions]
    # Choices listed again ("A. Rome\nB. Oslo") choose nothing.
    is_list = len({mention.label for mention in mentions if mention.begins_line}) > 1
    ranked = [(rank, mention) for rank, mention in ranked if rank and not (is_list and rank == _BEGINS)]
    best = max((rank for rank, _ in ranked), default=0)
    labels = [mention.label for rank, mention in ranked if rank == best]
    if best == _NAMED_ONLY and len(set(labels)) > 1:
        return None
    return labels[-1] if labels else None


def _mentions(text: str, labels: str) -> list[_Mention]:
    """Return the letters that may name a choice, without those that are words, denied or joined ("A or B")."""
    matches = list(_letter_pattern(labels).finditer(text))
    if len(matches) > 2 * _MOST_MENTIONS:
        matches = matches[:_MOST_MENTIONS] + matches[-_MOST_MENTIONS:]
    mentions = []
    for match in matches:
        start, end = match.span()
        mention = _Mention(match[0].upper(), start, text[max(0, start - 100) : start], text[end : end + 100])
        if _may_choose(mention, match[0]):
            mentions.append(mention)
    joined = set()
    for left, right in pairwise(mentions):
        between = text[left.start + 1 : right.start]
        if "\n" in between or len(between) > 40 or left.label == right.label:
            continue
        # "C, and D is too small" begins another sentence.
        if _OR.fullmatch(between) or (_AND.fullmatch(between) and not _SUBJECT.match(right.after)):
            joined |= {left.start, right.start}
    return [mention for mention in mentions if mention.start not in joined]


def _may_choose(mention: _Mention, written: str) -> bool:
    if _DENIED_AFTER.match(mention.after) or _DENIED_BEFORE.search(mention.before):
        return False
    if mention.is_bracketed:
        return True
    if written.islower() and not _END.match(mention.after):
        return False
    return not (written.upper() in "AI0123456789" and _AFTER_A_WORD.match(mention.after))


@lru_cache(maxsize=64)
def _letter_pattern(labels: str) -> re.Pattern[str]:
    """Return a pattern for one of the labels that is no part of a Latin word, of a number, or of C++ and A-level."""
    either = re.escape(labels + labels.lower())
    before = r"(?<![A-Za-z0-9À-ɏ_])(?<![A-Za-z]['’-])(?<!\d[.,])"
    return re.compile(rf"{before}[{either}](?![A-Za-z0-9À-ɏ_+#%]|['’-][A-Za-zÀ-ɏ]|[.,]\d)")


_ANNOUNCED, _JUDGED, _BEGINS, _PICKED, _NAMED_ONLY = 5, 4, 3, 2, 1
"""How clearly a letter is chosen."""


def _rank(mention: _Mention, choices: Mapping[str, str]) -> int:
    """Return how clearly the letter is chosen; 0: not at all."""
    before, after = mention.before, mention.after
    # "The incorrect option is C" chooses C only where nothing else is chosen.
    if _WRONG.search(before):
        return _NAMED_ONLY
    if _CUE.search(before) or _OPTION_IS.search(before):
        return _ANNOUNCED
    if _VERDICT.match(after):
        return _JUDGED
    own_text = choices.get(mention.label, "").casefold()
    is_followed_by_text = bool(own_text) and after.lstrip(" ).:-").casefold().startswith(own_text)
    if mention.begins_line or (is_followed_by_text and not before.strip(" \n(")):
        return _BEGINS
    if _VERB.search(before):
        return _PICKED
    if _NAMED.search(before) or (mention.is_bracketed and re.search(r"[(\[（【]\s?$", before)):
        return _NAMED_ONLY
    return 0
