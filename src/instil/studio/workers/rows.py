"""The helper process for data: ``python -m instil.studio.workers.rows``.

Its first line is the settings of a model, every further line a question, every line of its output the answer.
"""

from __future__ import annotations

import json
import os
import sys

from instil.errors import InstilError
from instil.screen import hide_work
from instil.studio.workers.looking import Look


def main() -> None:
    """Answer until the input ends: with the studio."""
    # Whatever a library prints must not come between the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    hide_work()
    setup = json.loads(sys.stdin.readline())
    setup.pop("state", None)  # it only tells this process from one for the model as it was before
    look = Look(setup)
    for line in sys.stdin:
        try:
            answer = {"answer": look.answer(json.loads(line))}
        except InstilError as error:
            answer = {"error": str(error)}
        except OSError as error:  # a file that was removed or cannot be read
            answer = {"error": f"{error.filename or 'a file'}: {error.strerror or error}. Reload the page."}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
