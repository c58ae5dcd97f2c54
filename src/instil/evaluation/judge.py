"""A judge that says which of two answers is better: a Python function, or a model behind an OpenAI-compatible address.

A judge is called only if the user names one. Each pair of answers is judged twice, in both orders, because judges favour
a place; a judge that changes its mind has seen a tie.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from instil.data.messages import message_to_dict
from instil.errors import EvaluationError
from instil.evaluation.intervals import mean_interval
from instil.screen import work

if TYPE_CHECKING:
    from instil.evaluation.cases import Case
    from instil.evaluation.results import ModelResult

JUDGE, WIN_RATE = "judge", "win_rate"
Choice: TypeAlias = Literal["first", "second", "tie"]
CHOICES: tuple[Choice, ...] = ("first", "second", "tie")
Judge: TypeAlias = Callable[[Sequence[Mapping[str, Any]], str, str], Choice]
"""From the messages of a prompt and two answers to the better one."""
KEY_VARIABLE = "INSTIL_JUDGE_KEY"
SECONDS = 120
_VERDICT = re.compile(r"\[\[(A|B|C)\]\]")
INSTRUCTION = """Two assistants answered the last message of a conversation. Say which answer is better: more helpful, \
more correct, closer to what was asked for. A longer answer is not better for its length, and the order of the answers \
means nothing. Reason briefly. Then end with [[A]] if answer A is better, [[B]] if answer B is better, or [[C]] if \
they are equally good."""
"""What a model is told that judges. Its last [[A]], [[B]] or [[C]] counts."""


def load_judge(name: str, *, model: str = "") -> Judge:
    """Return a judge by its name.

    Args:
        name: An address such as ``http://localhost:8000/v1``, or ``module:function`` for a Python function that takes
            the prompt's messages and two answers, and returns ``first``, ``second`` or ``tie``.
        model: Name of the model at the address. Empty: the first that it lists.

    Raises:
        EvaluationError: If there is no such function, or the address does not answer.
    """
    if name.startswith(("http://", "https://")):
        return _Remote(name.rstrip("/"), model).judge
    module, _, function = name.partition(":")
    if not module or not function:
        raise EvaluationError(
            f"judge: found {name!r:.80}. Expected an address such as http://localhost:8000/v1, or module:function. "
            "Correct it."
        )
    try:
        found = getattr(importlib.import_module(module), function, None)
    except ImportError as error:
        raise EvaluationError(f"judge: {module} cannot be imported ({error}). Expected a module. Correct it.") from None
    if not callable(found):
        raise EvaluationError(f"judge: {module} has no function {function}. Expected one. Correct the name.")
    judge: Judge = found
    return judge


class _Remote:
    """A model behind an OpenAI-compatible address."""

    def __init__(self, address: str, model: str) -> None:
        self._address = address
        self._model = model or self._first_model()

    def judge(self, messages: Sequence[Mapping[str, Any]], first: str, second: str) -> Choice:
        """Ask which of two answers is better."""
        conversation = "\n\n".join(f"{message['role']}: {_text(message)}" for message in messages)
        question = (
            f"Conversation:\n{conversation}\n\nAnswer A:\n{first}\n\nAnswer B:\n{second}\n\nWhich answer is better?"
        )
        asked = [{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": question}]
        value = self._call("/chat/completions", {"model": self._model, "messages": asked, "temperature": 0})
        try:
            content = str(value["choices"][0]["message"]["content"] or "")
        except (KeyError, IndexError, TypeError):
            raise EvaluationError(
                f"judge: {self._address} answered without choices[0].message.content. Expected an OpenAI-compatible "
                "server. Check the address."
            ) from None
        found = _VERDICT.findall(content)
        return {"A": CHOICES[0], "B": CHOICES[1]}.get(found[-1], CHOICES[2]) if found else CHOICES[2]

    def _first_model(self) -> str:
        models = self._call("/models", None).get("data") or []
        if not models or "id" not in models[0]:
            raise EvaluationError(f"judge: {self._address} lists no model. Expected one. Name it with --judge-model.")
        return str(models[0]["id"])

    def _call(self, path: str, body: Mapping[str, Any] | None) -> Any:
        key = os.environ.get(KEY_VARIABLE)
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._address + path, data=data, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as reply:
                return json.load(reply)
        except urllib.error.HTTPError as error:
            reason = f"status {error.code}"
            remedy = f" Put its key into {KEY_VARIABLE}." if error.code in (401, 403) else " Check address and model."
        except (OSError, ValueError) as error:
            reason, remedy = str(getattr(error, "reason", error)), " Check the address."
        raise EvaluationError(f"judge: {self._address}{path}: {reason}. Expected an answer in JSON.{remedy}")


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    return content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)


def judged_results(ours: ModelResult, theirs: ModelResult, judge: Judge) -> tuple[ModelResult, ModelResult]:
    """Return the results of two models with the share of prompts that each wins.

    Args:
        ours: The result of the model.
        theirs: The result of the other model, on the same prompts.
        judge: Says which of two answers is better.

    Raises:
        EvaluationError: If the judge fails, or says something else than first, second or tie.
    """
    wins: list[float] = []
    with work("judging", total=len(ours.answers), unit="prompts") as bar:
        for mine, other in zip(ours.answers, theirs.answers, strict=True):
            wins.append(_judged(mine, other, judge))
            bar.advance(1)
    return _with_wins(ours, wins), _with_wins(theirs, [1 - win for win in wins])


def _judged(mine: Case, other: Case, judge: Judge) -> float:
    """Return 1 if our answer wins in both orders, 0 if it loses in both, else a half."""
    messages = [message_to_dict(message) for message in mine.prompt.conversation.messages]
    answers = mine.prediction, other.prediction
    if answers[0] == answers[1]:
        return 0.5
    found = [_choice(judge, messages, *answers, mine), _choice(judge, messages, *answers[::-1], mine)]
    return {("first", "second"): 1.0, ("second", "first"): 0.0}.get((found[0], found[1]), 0.5)


def _choice(judge: Judge, messages: Sequence[Mapping[str, Any]], first: str, second: str, case: Case) -> Choice:
    try:
        found = judge(messages, first, second)
    except EvaluationError:
        raise
    except Exception as error:  # a function of the user's own
        raise EvaluationError(
            f"judge: {case.prompt.place or 'a prompt'}: the function failed ({type(error).__name__}: {error}). Expected "
            "first, second or tie. Mend the function."
        ) from error
    if found not in CHOICES:
        raise EvaluationError(
            f"judge: {case.prompt.place or 'a prompt'}: the function returned {found!r:.60}. Expected first, second or "
            "tie. Mend the function."
        )
    return found


def _with_wins(result: ModelResult, wins: Sequence[float]) -> ModelResult:
    scores = [{WIN_RATE: win} for win in wins]
    return replace(
        result,
        scores={**result.scores, JUDGE: scores},
        figures={**result.figures, JUDGE: {WIN_RATE: mean_interval(list(wins))}},
    )
