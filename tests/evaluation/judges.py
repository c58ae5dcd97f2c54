"""Judges as a user would write them, for the tests of `evaluation.judge`."""

from __future__ import annotations


def shorter(messages, first, second):
    return "first" if len(first) < len(second) else "second"


def first_always(messages, first, second):
    return "first"


def wordy(messages, first, second):
    return "the first one"
