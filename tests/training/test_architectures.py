"""What people fine-tune, tuned through the command line: plain transformers loads the result and computes and answers the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.model.tiny import MIXING
from tests.training.architectures import Kind, check, tune
from tests.training.command_line import make_rows

FULL = (
    *("llama", "qwen2", "qwen3", "mistral", "gemma2", "gemma3_text", "phi3", "smollm3", "gpt2", "olmo2"),
    *("qwen3_moe", "mixtral", "gpt_oss", "qwen3_5_text", "lfm2"),
    *("granite", "cohere2", "bloom", "falcon_h1", "mamba2", "gpt_neo", "minimax"),
    *("gemma3", "qwen3_5"),  # these read images
)
LORA = (
    *("llama", "gpt2", "gemma3_text", "qwen3_moe", "gpt_oss", "lfm2"),
    *("llama4_text", "deepseek_v3", "jamba", "falcon"),
    *("qwen2_5_vl", "llama4"),
)
CASES: list[tuple[str, Kind]] = [*((name, "full") for name in FULL), *((name, "lora") for name in LORA)]
"""One of each way in which architectures differ; ``python -m tests.training.architectures`` tries all, with and without adapters."""
IN_SHORT = {
    *((name, "full") for name in ("llama", "gemma3_text", "gpt2", "gpt_oss", "mamba2")),
    *((name, "lora") for name in ("llama", "gpt_oss", "qwen2_5_vl")),
}
"""What `make test` runs of them."""
ONE_BY_ONE = {*MIXING, "qwen3_5", "falcon", "falcon_h1", "gpt_neo", "jamba", "mamba2", "minimax"}
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]


@pytest.fixture(scope="module")
def few_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_rows(tmp_path_factory.mktemp("few") / "rows.jsonl", count=12)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        pytest.param(name, kind, marks=[] if (name, kind) in IN_SHORT else [pytest.mark.long], id=f"{name}-{kind}")
        for name, kind in CASES
    ],
)
def test_transformers_loads_what_was_tuned_and_computes_the_same(tmp_path: Path, few_rows: Path, name: str, kind: Kind):
    tuned = tune(name, kind, tmp_path, rows=few_rows)
    assert tuned.code == 0, tuned.said
    check(tuned, kind)
    assert tuned.one_by_one == (name in ONE_BY_ONE)


@pytest.mark.parametrize("name", ["deepseek_v32", "doge", "jetmoe"])
def test_an_architecture_that_cannot_be_trained_is_refused_in_one_line(tmp_path: Path, few_rows: Path, name: str):
    tuned = tune(name, "full", tmp_path, rows=few_rows)
    assert tuned.code == 2
    (line,) = [line for line in tuned.said.splitlines() if line.startswith("error: ")]
    assert line.removeprefix("error: ").lower().startswith(name.replace("_", ""))
    assert not tuned.run.exists()
