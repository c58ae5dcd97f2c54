"""Other names of columns that the formats read: capitals, and the headers of Chinese and Vietnamese tables.

`registry` reads a row under the standard names of its columns, for every container and every format of plain columns.
This module is the one place for the names.

Why: a column is read only if its name is in the list, apart from capitals, white space around it and the way in which
Unicode composes its letters. Nothing is guessed from similar names.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from instil.conversation import Place
from instil.data.side_columns import SYSTEM_COLUMNS, is_empty
from instil.errors import FormatError

_CHINESE: Mapping[str, tuple[str, ...]] = {
    "question": ("问题", "问", "提问", "题目", "問題", "問", "提問", "題目"),
    "answer": ("回答", "答", "答案", "解答"),
    "response": ("回复", "响应", "回覆", "回應"),
    "query": ("查询", "查詢"),
    "instruction": ("指令", "指示"),
    "input": ("输入", "輸入"),
    "context": ("上下文",),
    "output": ("输出", "輸出"),
    "history": ("历史", "历史对话", "歷史", "歷史對話"),
    "prompt": ("提示", "提示词", "提示詞"),
    "completion": ("补全", "補全"),
    "user": ("用户", "用戶", "使用者"),
    "assistant": ("助手", "助理"),
    "system": ("系统", "系统提示", "系统提示词", "系統", "系統提示", "系統提示詞"),
}
"""Standard name to names in simplified and traditional characters."""
_VIETNAMESE: Mapping[str, tuple[str, ...]] = {
    "question": ("câu hỏi", "hỏi", "đề bài"),
    "answer": ("trả lời", "câu trả lời", "đáp", "đáp án", "lời giải"),
    "response": ("phản hồi",),
    "query": ("truy vấn",),
    "instruction": ("hướng dẫn", "chỉ dẫn", "chỉ thị"),
    "input": ("đầu vào",),
    "context": ("ngữ cảnh",),
    "output": ("đầu ra",),
    "history": ("lịch sử",),
    "prompt": ("lời nhắc",),
    "user": ("người dùng",),
    "assistant": ("trợ lý",),
    "system": ("hệ thống", "lời nhắc hệ thống"),
}
"""Standard name to names with diacritics. Without them, and with ``_`` between the words, they are listed too."""
_ENGLISH = (
    *("question", "answer", "response", "std_answer", "query", "problem", "solution", "inputs", "targets"),
    *("instruction", "input", "context", "output", "history", "prompt", "completion", "user", "assistant"),
    *("chosen", "rejected", "label", *SYSTEM_COLUMNS),
)
"""Standard names that are read in capitals too. A ``Label`` beside a completion may say that it was judged bad."""


def _without_diacritics(name: str) -> str:
    bare = "".join(char for char in unicodedata.normalize("NFD", name) if not unicodedata.combining(char))
    return bare.replace("đ", "d")


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name.strip()).casefold())


def _listed() -> dict[str, str]:
    """Return every listed name, folded, with its standard name."""
    names = {name: name for name in _ENGLISH} | {"system prompt": "system_prompt", "system message": "system_message"}
    for standard, others in _CHINESE.items():
        names |= dict.fromkeys(others, standard)
    for standard, others in _VIETNAMESE.items():
        for name in others:
            for form in (name, _without_diacritics(name)):
                names |= {form: standard, form.replace(" ", "_"): standard}
    return {_folded(name): standard for name, standard in names.items()}


STANDARD_NAMES: Mapping[str, str] = _listed()
"""Every listed name in small letters, with the name under which the formats read it."""


def standard_name(column: object) -> str | None:
    """Return the standard name of a column, or None if its name is not listed.

    Example:
        >>> standard_name(" QUESTION"), standard_name("回答"), standard_name("Cau hoi"), standard_name("questions")
        ('question', 'answer', 'question', None)
    """
    return STANDARD_NAMES.get(_folded(column)) if isinstance(column, str) else None


@dataclass(frozen=True, slots=True)
class Naming:
    """Which columns of a row are read under another name.

    Attributes:
        own_names: Standard name to the column's own name, where they differ.
        clashes: Standard name to the columns that have it, where more than one of them holds something.
    """

    own_names: Mapping[str, str]
    clashes: Mapping[str, tuple[str, ...]]

    def __bool__(self) -> bool:
        return bool(self.own_names or self.clashes)

    def only(self, read: Collection[str]) -> Naming:
        """Return the naming of the columns that a format reads, by their standard names."""
        return Naming(
            {standard: own for standard, own in self.own_names.items() if standard in read},
            {standard: names for standard, names in self.clashes.items() if standard in read},
        )

    def applied(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return the row under standard names; an empty column that has one already gives it up."""
        standards = {own: standard for standard, own in self.own_names.items()}
        return {standards.get(name, name): value for name, value in row.items() if name not in self.own_names}

    def words(self) -> list[str]:
        """Return which column is read as what, for people."""
        return [f"{own!r} read as {standard}" for standard, own in self.own_names.items()]

    def __str__(self) -> str:
        return ", ".join(self.words())


NO_NAMING = Naming({}, {})


@lru_cache(maxsize=1000)
def _columns_by_standard(names: tuple[Any, ...]) -> Mapping[str, tuple[str, ...]]:
    """Return the columns of each standard name, without those that only have their standard name."""
    columns: dict[str, tuple[str, ...]] = {}
    for name in names:
        standard = standard_name(name)
        if standard is not None:
            columns[standard] = (*columns.get(standard, ()), name)
    return {standard: names for standard, names in columns.items() if names != (standard,)}


def naming_of(row: Mapping[str, Any]) -> Naming:
    """Return the naming of a row's columns. Of several columns with one standard name, empty ones do not count.

    Example:
        >>> naming_of({"问题": "2+2?", "Answer": "4", "answer": ""}).own_names
        {'question': '问题', 'answer': 'Answer'}
        >>> naming_of({"question": "2+2?", "Question": "3+3?"}).clashes
        {'question': ('question', 'Question')}
    """
    columns = _columns_by_standard(tuple(row))
    if not columns:
        return NO_NAMING
    filled = {standard: tuple(name for name in names if not is_empty(row[name])) for standard, names in columns.items()}
    first = {
        standard: next(iter(filled[standard] or (standard,) * (standard in names) or names))
        for standard, names in columns.items()
    }
    return Naming(
        {standard: own for standard, own in first.items() if own != standard},
        {standard: names for standard, names in filled.items() if len(names) > 1},
    )


def check_clashes(naming: Naming, place: Place | None) -> None:
    """Check that no two columns mean the same.

    Raises:
        FormatError: If two do.
    """
    for standard, names in naming.clashes.items():
        raise FormatError(
            f"{place or 'conversation'}: columns {' and '.join(map(repr, names))} both mean {standard}. Expected one of them. "
            "Drop the other, or map the columns to roles with data.columns."
        )


def row_with_standard_names(row: Mapping[str, Any], read: Iterable[str], place: Place | None) -> Mapping[str, Any]:
    """Return a row in which the columns named in `read` have these names.

    Raises:
        FormatError: If two columns mean the same.
    """
    naming = naming_of(row).only(frozenset(read))
    check_clashes(naming, place)
    return naming.applied(row) if naming else row
