"""Waiting threads do not take the cores of other programs, from the command line, from Python and in started processes.

No timing decides: the tests read the environment that an OpenMP library reads. `benchmarks/busy.py` measures the rates.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from instil.waiting_threads import CHOICES_OF_THE_USER, let_threads_sleep

SHOW = "import os, {order}; print(os.environ.get('OMP_WAIT_POLICY'))"


def clean(**variables: str) -> dict[str, str]:
    """Return this environment without a choice of how threads wait, and with these variables."""
    return {name: value for name, value in os.environ.items() if name not in CHOICES_OF_THE_USER} | variables


def said(*words: str, **variables: str) -> str:
    """Run Python and return what it printed on both streams."""
    result = subprocess.run(
        [sys.executable, *words], env=clean(**variables), capture_output=True, text=True, check=False, timeout=120
    )
    assert result.returncode == 0, result.stderr
    return (result.stdout + result.stderr).strip()


@pytest.mark.slow
@pytest.mark.parametrize("order", ["instil", "instil.recipe", "instil.cli.main", "instil.cli.process"])
def test_waiting_threads_sleep_after_any_import_of_instil(order: str) -> None:
    assert said("-c", SHOW.format(order=order)) == "PASSIVE"


@pytest.mark.parametrize(
    ("name", "value", "policy"),
    [("OMP_WAIT_POLICY", "ACTIVE", "ACTIVE"), ("GOMP_SPINCOUNT", "1000", "None"), ("KMP_BLOCKTIME", "200", "None")],
)
def test_a_choice_of_the_user_wins(name: str, value: str, policy: str) -> None:
    assert said("-c", SHOW.format(order="instil"), **{name: value}) == policy


def test_an_empty_environment_gets_the_policy_and_nothing_else() -> None:
    environment = {"PATH": "/bin"}
    let_threads_sleep(environment)
    assert environment == {"PATH": "/bin", "OMP_WAIT_POLICY": "PASSIVE"}


def test_started_processes_inherit_the_policy() -> None:
    """Ranks and workers are started with the environment of the process that starts them."""
    child = "import subprocess, sys, instil; subprocess.run([sys.executable, '-c', {show!r}], check=True)"
    assert said("-c", child.format(show="import os; print(os.environ['OMP_WAIT_POLICY'])")) == "PASSIVE"


@pytest.mark.slow
def test_the_openmp_library_of_torch_has_read_it() -> None:
    """GNU's library prints the settings that it uses: passive is a spin count of 0."""
    words = "import instil; from instil import train; import torch; torch.ones(2)"
    shown = said("-c", words, OMP_DISPLAY_ENV="VERBOSE")
    if "GOMP_SPINCOUNT" not in shown:
        pytest.skip("torch here has another OpenMP library than GNU's")
    assert "GOMP_SPINCOUNT = '0'" in shown
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in shown
