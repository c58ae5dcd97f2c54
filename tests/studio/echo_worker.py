"""A helper process for tests: it answers what it is asked, with its setup and its process id."""

from __future__ import annotations

import json
import os
import sys
import time

if __name__ == "__main__":  # doctests import every module
    setup = json.loads(sys.stdin.readline())
    for line in sys.stdin:
        question = json.loads(line)
        if question == {"ask": "die"}:
            print("out of luck", file=sys.stderr, flush=True)
            os._exit(3)
        time.sleep(question.get("sleep", 0))
        answer = {"error": "no such thing"} if "wrong" in question else {"answer": [setup, question, os.getpid()]}
        print(json.dumps(answer), flush=True)
