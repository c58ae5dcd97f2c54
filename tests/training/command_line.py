"""A tiny base model on disk, rows to train on, and `instil train` called as a user calls it."""

from __future__ import annotations

import io
import json
import os
import socket
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tests.forks import import_what_commands_import, limit_memory, settle_threads, start_fork

from instil.cli.main import main
from instil.training.records.run_folder import Run

NUM_ROWS = 36
QUICK: dict[str, Any] = {
    "data": {"heldout_share": 0.2},
    "training": {"max_steps": 12, "batch_size": 5, "precision": "fp32", "seed": 1},
    "optimizer": {"lr": 5e-3, "weight_decay": 0.1},
    "evaluate": {"every": 4, "max_new_tokens": 4},
    "checkpoint": {"every": 2},
}


def make_base(folder: Path, *, dropout: float = 0.0, width: int = 32, num_rows: int | None = None) -> Path:
    """Write a random Llama, of 25 thousand parameters at width 32, with a byte-level tokenizer and no chat template.

    Args:
        folder: Where to write it.
        dropout: Dropout of its attention.
        width: Its width.
        num_rows: Rows of the embedding, if it is to have more than the tokenizer has tokens.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: number for number, letter in enumerate([*alphabet, "<|endoftext|>"])}
    words = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<|endoftext|>", model_max_length=256)
    torch.manual_seed(5)
    config = LlamaConfig(
        vocab_size=num_rows or len(tokenizer),
        hidden_size=width,
        intermediate_size=width * 3 // 2,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        attention_dropout=dropout,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_rows(path: Path, *, count: int = NUM_ROWS) -> Path:
    """Write conversations of one and two turns."""
    rows = []
    for number in range(count):
        messages = [{"role": "user", "content": f"{number}+1"}, {"role": "assistant", "content": str(number + 1)}]
        if number % 3 == 0:
            messages += [{"role": "user", "content": "again"}, {"role": "assistant", "content": f"{number + 1}."}]
        rows.append(json.dumps({"messages": messages}))
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def write_recipe(folder: Path, *changes: dict[str, Any], base: Path, rows: Path) -> Path:
    """Write `QUICK`, changed, as a recipe file whose run folder lies beside it."""
    recipe: dict[str, Any] = {
        "output": str(folder / "run"),
        "model": {"name": str(base)},
        "data": {"sources": [str(rows)], "store": str(rows.parent / "store")},
    }
    for change in (QUICK, *changes):
        for group, values in change.items():
            recipe[group] = {**recipe.get(group, {}), **values} if isinstance(values, dict) else values
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return path


def train(recipe: Path, *words: str) -> Run:
    """Call ``instil train`` in this process."""
    assert exit_code("train", str(recipe), *words) == 0
    return Run.open(recipe.parent / "run")


def exit_code(*words: str) -> int:
    """Call ``instil`` in this process and return its exit code."""
    try:
        main(words)
    except SystemExit as exit_:
        return int(exit_.code or 0)
    return 0


def forked(
    *words: str,
    said: Path | int,
    room: int | None = None,
    memory: tuple[str, int] | None = None,
    typed: str | None = None,
    **environment: str,
) -> int:
    """Call ``instil`` in a fork of this process, which has imported everything already; return the fork's process id.

    Args:
        words: The command line.
        said: File, or descriptor of an open one, for its output.
        room: Largest size of a file in bytes.
        memory: A limit of memory, RLIMIT_AS or RLIMIT_DATA, and the bytes that it allows beyond what is used already.
        typed: What it reads from the terminal.
        environment: Variables to set for it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import_what_commands_import()
        child = os.fork()
    if child:
        return child
    status = 1
    try:
        os.environ.update(environment)
        settle_threads()
        with open(said, "w", buffering=1) as file:
            sys.stdout = sys.stderr = file
            sys.stdin = sys.stdin if typed is None else io.StringIO(typed)
            if room is not None:
                import resource

                resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
            if memory is not None:
                limit_memory(*memory)
            status = exit_code(*words)
    finally:
        os._exit(status)


def environments(size: int) -> list[dict[str, str]]:
    """Return the variables that torchrun gives each of the processes of a run, all on this machine."""
    shared = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_ports(1)[0]),
        "WORLD_SIZE": str(size),
        "LOCAL_WORLD_SIZE": str(size),
    }
    return [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(size)]


def call_on_processes(size: int, work: Callable[[], object], *, seconds: float = 300.0) -> None:
    """Call `work` in forks that are the processes of one run; each must end without an exception.

    Args:
        size: Number of processes.
        work: What each of them does.
        seconds: Time after which they are killed.
    """
    forks = [start_fork(work, **environment) for environment in environments(size)]
    said = [fork.communicate(timeout=seconds)[0][-3000:] for fork in forks]
    assert [fork.returncode for fork in forks] == [0] * size, "\n".join(said)


def run_on_two(recipe: Path, *words: str, other: Path | None = None) -> tuple[list[int], list[str]]:
    """Call ``instil train`` as torchrun does for two processes, in two forks; return their exit codes and outputs.

    Args:
        recipe: The recipe.
        words: The rest of the command line.
        other: The second process's recipe, where it is another file: on another machine.
    """
    said = [recipe.parent / f"said-{rank}.txt" for rank in range(2)]
    children = [
        forked("train", str(given), *words, said=output, **environment)
        for given, output, environment in zip([recipe, other or recipe], said, environments(2), strict=True)
    ]
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    return codes, [path.read_text() for path in said]


def train_on_two(recipe: Path, *words: str) -> Run:
    """Call ``instil train`` as torchrun does for two processes; the launcher of ``--parallel.processes`` is tested by itself."""
    codes, said = run_on_two(recipe, *words)
    assert codes == [0, 0], said
    assert not said[1].strip(), said[1]
    return Run.open(recipe.parent / "run")


def train_fails(recipe: Path, *words: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Call ``instil train``, which must fail with status 2 and one line; return the line."""
    capsys.readouterr()
    assert exit_code("train", str(recipe), *words) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == 1, lines
    return errors[0]


def weights_of(run: Run) -> dict[str, torch.Tensor]:
    """Read the weights of a run's model."""
    from safetensors.torch import load_file

    return load_file(run.model_folder / "model.safetensors")


def same_bits(one: Run, other: Run) -> bool:
    """Return True if two runs ended with bit-identical weights."""
    a, b = weights_of(one), weights_of(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def losses_of(run: Run) -> list[float]:
    """Return the training losses of a run, step by step."""
    return [line["loss"] for line in run.metrics() if "loss" in line]


def assert_equal_runs(run: Run, reference: Run) -> None:
    """Check that two runs have the same losses up to rounding, and exactly the same tokens."""
    assert len(losses_of(run)) == len(losses_of(reference))
    assert losses_of(run)[:3] == pytest.approx(losses_of(reference)[:3], abs=1e-5)
    assert losses_of(run) == pytest.approx(losses_of(reference), abs=1e-4)
    assert run.results["heldout_loss"] == pytest.approx(reference.results["heldout_loss"], abs=1e-4)
    counts = [(line["tokens"], line["trained_tokens"]) for line in run.metrics() if "loss" in line]
    assert counts == [(line["tokens"], line["trained_tokens"]) for line in reference.metrics() if "loss" in line]


def without_times(run: Run) -> list[dict[str, Any]]:
    """Return a run's metrics without the fields that differ from run to run."""
    return [
        {key: value for key, value in line.items() if key not in ("seconds", "memory_mb")} for line in run.metrics()
    ]


def free_ports(count: int) -> list[int]:
    """Return ports that were free a moment ago."""
    taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(one.getsockname()[1]) for one in taken]
    for one in taken:
        one.close()
    return ports
