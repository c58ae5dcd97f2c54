"""Claims about watched strings: a question is recorded, anything else is opaque, and a template may not get round it."""

from __future__ import annotations

import pytest
from jinja2 import Environment

from instil.encoding.plans.watched_string import Log, RecordedQuestion, WatchedStr, can_be_watched

TEXT = "plain text"
UNDERSTOOD = [
    # operation                          question
    (lambda text: "</think>" in text, ("contains", "</think>", False)),
    (lambda text: "text" in text, ("contains", "text", True)),
    (lambda text: text.startswith("plain"), ("starts", "plain", True)),
    (lambda text: text.startswith(("a", "p")), ("starts", ("a", "p"), True)),
    (lambda text: text.endswith("."), ("ends", ".", False)),
    (lambda text: text == "other", ("equals", "other", False)),
    (lambda text: text != "plain text", ("equals", "plain text", True)),
]
SILENT = [
    lambda text: bool(text),
    str,
    lambda text: text.strip(),
    lambda text: text.rstrip("\n"),
    lambda text: text == 1,
]
OPAQUE = [
    len,
    hash,
    list,
    lambda text: text[:3],
    lambda text: text.split(" "),
    lambda text: text.upper(),
    lambda text: text < "z",
    lambda text: text.strip("pt"),  # more than white space: may change the text
    lambda text: text.startswith("lain", 1),
    lambda text: f"{text:>20}",
    lambda text: text % (),
    lambda text: (text + "!").startswith("plain"),  # a question about a text that is not the message's own
    lambda text: ("!" + text) == "!plain text",
    lambda text: WatchedStr("a", message=2, log=text.log) in text,  # a question about two messages at once
]


def watched():
    log = Log()
    return log, WatchedStr(TEXT, message=1, log=log)


@pytest.mark.parametrize(("operation", "question"), UNDERSTOOD)
def test_a_question_is_recorded_with_the_answer_of_a_plain_string(operation, question):
    log, text = watched()
    assert operation(text) == operation(TEXT)
    assert list(log.questions) == [RecordedQuestion(1, *question)]
    assert not log.opaque


@pytest.mark.parametrize("operation", SILENT)
def test_what_tells_nothing_about_the_text_is_not_recorded(operation):
    log, text = watched()
    operation(text)
    assert (log.questions, log.opaque) == ({}, False)


@pytest.mark.parametrize("operation", OPAQUE)
def test_anything_else_makes_the_log_opaque(operation):
    log, text = watched()
    operation(text)
    assert log.opaque


def test_joining_keeps_the_watch_and_asks_nothing():
    log, text = watched()
    joined = "<|user|>" + text + "\n"
    assert type(joined) is WatchedStr
    assert str.__eq__(joined, "<|user|>plain text\n")
    assert (log.questions, log.opaque) == ({}, False)


@pytest.mark.parametrize(("content", "same"), [("no tag", True), ("<think></think>", False)])
def test_a_content_with_the_same_answer_is_told_from_one_with_another(content, same):
    log, text = watched()
    assert "</think>" not in text
    (question,) = log.questions
    assert question.has_same_answer(content) == same


TEMPLATES = [
    # source                                                       can be watched
    ("{{ m.content }}", True),
    ("{{ '<|user|>' + m.content | trim + '\\n' }}", True),
    ("{{ '<|user|>' ~ m.content }}", True),  # joined texts are printed, nothing more
    ("{% if '</think>' in m.content %}a{% endif %}", True),
    ("{% set text = m.content ~ '!' %}{{ text }}", False),  # a plain string that can be asked unseen
    ("{% if (m.content ~ '') == 'a' %}b{% endif %}", False),
    ("{{ '%s' % m.content }}", True),
    ("{% set text = '%s' % m.content %}{{ text }}", False),
    ("{% set text = ''.join([m.content]) %}{{ text }}", False),
    ("{% set text %}{{ m.content }}{% endset %}{{ text }}", False),
    ("{% filter upper %}{{ m.content }}{% endfilter %}", False),
    ("{{ m.content | wordcount }}", False),  # not among the filters that use a string's own methods
    ("{{ lipsum() }}", False),
    ("{% macro show(text) %}{{ text }}{% endmacro %}{{ show(m.content) }}", True),
    ("{% macro show(text) %}{{ text }}{% endmacro %}{% set text = show(m.content) %}{{ text }}", False),
    ("{{ (m.content ~ '!') if last else m.content }}", True),
]


@pytest.mark.parametrize(("source", "allowed"), TEMPLATES)
def test_a_template_may_not_keep_a_joined_text_as_a_plain_string(source, allowed):
    assert can_be_watched(Environment().parse(source)) == allowed
