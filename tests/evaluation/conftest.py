"""Two tiny models and their prompts, loaded once for all tests of evaluation."""

from __future__ import annotations

import pytest
from tests.evaluation.cases import talk
from tests.tiny_chat import FACTS, folders

from instil.generation.engine import Engine
from instil.generation.prompts import prompts_of


@pytest.fixture(scope="package")
def tuned():
    return Engine.load(folders()["tuned"])


@pytest.fixture(scope="package")
def base():
    return Engine.load(folders()["base"])


@pytest.fixture(scope="package")
def prompts():
    return [
        prompt for fact in FACTS for prompt in prompts_of(talk(fact, task="math" if "plus" in fact[0] else "other"))
    ]
