from __future__ import annotations

import resource

import pytest
from tests.evaluation.cases import case

from instil.evaluation.code_running import code_in, compiles, passes
from instil.evaluation.tasks import TaskOptions, make_tasks


def test_code_compiles_or_not():
    assert compiles("x = 1")
    assert not compiles("x = = 1")
    assert not compiles("x = '\0'")
    assert code_in("Sure:\n```python\nx = 1\n```\nand\n```\ny = 2\n```") == "x = 1\n\ny = 2\n"


@pytest.mark.slow
def test_unit_tests_run_apart_with_limits(tmp_path, monkeypatch):
    monkeypatch.setenv("INSTIL_SECRET", "1")
    good = "def add(a, b):\n    return a + b"
    assert passes(good, "assert add(1, 2) == 3")
    assert not passes(good, "assert add(1, 2) == 4")
    assert passes("import os", "assert 'INSTIL_SECRET' not in os.environ and not os.listdir('.')[1:]")
    assert not passes("import socket", "socket.create_connection(('127.0.0.1', 9))")
    assert not passes("x = bytearray(4 * 2**30)", "", seconds=5)
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    assert not passes("while True: pass", "", seconds=1)
    # Computing time, which a busy machine does not lengthen.
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 5


def test_tests_run_only_where_asked():
    row = case("```python\ndef f():\n    return 1\n```", test_list=["assert f() == 2"])
    (quiet, _), (running, _) = (make_tasks(["code"], TaskOptions(run_code=run)) for run in (False, True))
    assert quiet.judge(row) == {"compiles": 1.0}
    assert running.judge(row) == {"compiles": 1.0, "passes_tests": 0.0}
