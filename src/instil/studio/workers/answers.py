"""The loop of a helper process, whose other side is `process.Worker`.

Its first line is a setup, every further line a question, every line of its output the answer.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from instil.errors import InstilError
from instil.screen import hide_work


def serve_answers(open_setup: Callable[[dict[str, Any]], Callable[[Mapping[str, Any]], Any]]) -> None:
    """Answer until the input ends: with the studio.

    Args:
        open_setup: From the setup to a function that answers a question with JSON values, or raises `InstilError`.
    """
    # Whatever a library prints must not come between the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    hide_work()
    answer_of = open_setup(json.loads(sys.stdin.readline()))
    for line in sys.stdin:
        try:
            answer = {"answer": answer_of(json.loads(line))}
        except InstilError as error:
            answer = {"error": str(error)}
        except OSError as error:  # a file that was removed or cannot be read
            answer = {"error": f"{error.filename or 'a file'}: {error.strerror or error}. Reload the page."}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
