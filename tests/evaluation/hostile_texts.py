"""Texts that a reader of answers could choke on, made by repeating a piece."""

from __future__ import annotations

from collections.abc import Callable
from time import process_time

HOSTILE = (
    *("7", "1,", "1 ", "1=", "1 + 1 = ", "-", "½", "1e9", "x ", ".1", "1_"),
    *("{", "\\boxed{", "\\frac{1}{", "####", "#### 1\n", "$", "**", "~~a", "\\text{"),
    *("answer is ", "answer: a ", "答案是", "answer a a a a a a ", "99% sure ", "confidence a a a a "),
    *("A ", "A or ", "(A)", "A. x\nB. y\n", "not A ", "option ", "rome ", "Б "),
    *("a\u0301\u0323", "\u0323\u0301", '".', "\ud800", "\x00", "\u202e", " ", "\n", "\uff11", "²"),
)
LENGTH = 30_000


def seconds_for(read: Callable[[str], object], unit: str) -> float:
    """Return the CPU time of reading a long text; with quadratic time it takes minutes."""
    text = unit * (LENGTH // len(unit))
    begin = process_time()
    read(text)
    read(text + " the answer is 5")
    return process_time() - begin
