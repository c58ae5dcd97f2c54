"""Measure decoding of one sequence and of small batches on a CPU, as a share of the memory's read bandwidth.

    python benchmarks/decoding.py [--work demo,135m] [--precision fp32,bf16] [--threads 1] [--rows 1,2,4,8] [--steps 24]
                                  [--repeats 3] [--turns 10] [--peer llama.cpp] [--model MODEL] [--template chatml]

A step has to read every weight once. So its lower bound is the bytes of the weights over the rate at which this machine
reads a buffer larger than its caches. Both sides generate greedily from the same prompts: `ours` by plain steps,
`theirs` by transformers' forward and its DynamicCache, in a batch without padding. `llama` is llama.cpp, in a process of
its own (peers.py), with the same weights as GGUF: f32 beside fp32, f16 beside bf16; `--peer none` leaves it out. Steps of
all sides and reads of the buffer take turns within a repeat, so other programs slow all of them alike. Every figure is
a median over the steps.

`share` is the bound over the time of a step. `equal` counts the tokens on which both sides agree up to the first
difference; in bf16 and in f16 the sides round at other places.

The first token of the last of several turns is timed with and without kept texts, in turns too. Each turn adds 40 tokens
of a question and 20 of an answer. `difference` is that of the logits over the largest. Takes no data. The last line of the output is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from options import add_model_options, count, counts, inputs_of, words_of
from peers import peer_python
from train_step import WORKS, write_start

PROMPT_TOKENS = 40
ANSWER_TOKENS = 20
GGUF_DTYPES = {"fp32": torch.float32, "bf16": torch.float16}
"""What llama.cpp gets beside a precision. Its f16 is the type of two bytes that it is used with most."""
BUFFER = 1 << 26
"""Numbers in the buffer: 256 MiB in fp32."""


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds of a call, and its result."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def load(folder: Path, precision: str) -> Any:
    """Load a model as transformers does."""
    from transformers import AutoModelForCausalLM

    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    return AutoModelForCausalLM.from_pretrained(str(folder), dtype=dtype, attn_implementation="sdpa").eval()


def steps_of(model: Any) -> Any:
    """Return the plain steps of a model, which lay out its weights.

    Raises:
        SystemExit: If it has none.
    """
    from instil.generation.decoder.plain import plain_steps

    steps = plain_steps(model)
    if isinstance(steps, str):
        raise SystemExit(f"the model has no plain steps: {steps}")
    return steps


class Ours:
    """Plain steps on a model of its own, whose weights they lay out."""

    def __init__(self, model: Any) -> None:
        from instil.generation.decoder.plain import PlainRows

        self._rows = PlainRows(steps_of(model))

    def start(self, prompts: list[list[int]]) -> torch.Tensor:
        return self._rows.add(prompts)

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        return self._rows.step(tokens)


class Theirs:
    """transformers' forward with its DynamicCache."""

    def __init__(self, model: Any) -> None:
        from transformers import DynamicCache

        self._model, self._cache = model, DynamicCache(config=model.config)

    def start(self, prompts: list[list[int]]) -> torch.Tensor:
        return self.step(torch.tensor(prompts))

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        ids = tokens if tokens.ndim == 2 else tokens[:, None]
        logits = self._model(input_ids=ids, past_key_values=self._cache, use_cache=True, logits_to_keep=1).logits
        return logits[:, -1].float()


class Llama:
    """llama.cpp in a process of its own, which is idle while the others are timed."""

    def __init__(self, path: Path, *, threads: int, rows: int, columns: int) -> None:
        words = [peer_python("llama.cpp"), Path(__file__).with_name("decoding_llama.py"), path, threads, rows, columns]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._process = subprocess.Popen(
            list(map(str, words)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True,
            env=environment,
        )  # fmt: skip

    def start(self, prompts: list[list[int]]) -> list[int]:
        """Read prompts; return the first new token of each."""
        return self._ask(prompts=prompts)[1]

    def step(self, tokens: list[int]) -> tuple[float, list[int]]:
        """Append one token a row; return the seconds, and the next tokens."""
        return self._ask(tokens=tokens)

    def _ask(self, **command: Any) -> tuple[float, list[int]]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(command), file=self._process.stdin, flush=True)
        if not (line := self._process.stdout.readline()):
            self._errors.seek(0)
            raise SystemExit(f"llama.cpp ended:\n{self._errors.read()[-2000:]}")
        answer = json.loads(line)
        return answer["seconds"], answer["tokens"]

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        self._errors.close()


def write_for_llama(folder: Path, precision: str) -> Path:
    """Write the model's weights as GGUF, once; return the file."""
    from instil import ChatTokenizer
    from instil.exporting.gguf_file import write_gguf

    path = folder.with_name(f"{precision}.gguf")
    if not path.exists():
        chat = ChatTokenizer.from_pretrained(str(folder))
        write_gguf(load(folder, "fp32"), chat, path, dtype=GGUF_DTYPES[precision], name="decoding")
    return path


def case(
    folder: Path, work: str, *, precision: str, rows: int, threads: int, steps: int, repeats: int, peer: str
) -> dict[str, Any]:
    """Measure all sides and the bandwidth in turns."""
    torch.set_num_threads(threads)
    models = {side: load(folder, precision) for side in ("ours", "theirs")}
    num_bytes = sum(parameter.numel() * parameter.element_size() for parameter in models["theirs"].parameters())
    buffer = torch.ones(BUFFER)
    generator = torch.Generator().manual_seed(0)
    prompts = torch.randint(3, 4_000, (rows, PROMPT_TOKENS), generator=generator).tolist()
    llama = None
    if peer != "none":
        path = write_for_llama(folder, precision)
        llama = Llama(path, threads=threads, rows=rows, columns=PROMPT_TOKENS + steps + 1)
    seconds: dict[str, list[float]] = {"ours": [], "theirs": [], "read": [], "llama": []}
    tokens: dict[str, list[list[int]]] = {}
    with torch.inference_mode():
        for _ in range(repeats):
            sides: dict[str, Any] = {"ours": Ours(models["ours"]), "theirs": Theirs(models["theirs"])}
            logits = {name: side.start(prompts) for name, side in sides.items()}
            tokens = {name: [] for name in (*sides, "llama")}
            of_llama = llama.start(prompts) if llama else []
            for _ in range(steps):
                seconds["read"].append(timed(buffer.sum)[0])
                for name, side in sides.items():
                    chosen = logits[name].argmax(dim=-1)
                    tokens[name].append(chosen.tolist())
                    spent, logits[name] = timed(lambda side=side, chosen=chosen: side.step(chosen))
                    seconds[name].append(spent)
                if llama:
                    tokens["llama"].append(of_llama)
                    spent, of_llama = llama.step(of_llama)
                    seconds["llama"].append(spent)
    if llama:
        llama.close()
    read, ours, theirs = (statistics.median(seconds[name]) for name in ("read", "ours", "theirs"))
    bound = num_bytes / (4 * BUFFER / read)

    def equal(other: str) -> str:
        pairs = zip(tokens["ours"], tokens[other], strict=True)
        first = next((number for number, (one, another) in enumerate(pairs) if one != another), steps)
        return f"{first} of {steps}"

    of_peer: dict[str, Any] = {}
    if llama:
        beside = statistics.median(seconds["llama"])
        of_peer = {
            "llama": round(rows / beside, 1), "ratio_to_llama": round(beside / ours, 2),
            "llama_share": round(bound / beside, 2), "equal_to_llama": equal("llama"),
        }  # fmt: skip
    return {
        "work": f"decode {work}", "precision": precision, "threads": threads, "rows": rows,
        "ours": round(rows / ours, 1), "theirs": round(rows / theirs, 1), "ratio": round(theirs / ours, 2),
        "gigabytes_per_second": round(4 * BUFFER / read / 1e9, 1), "share": round(bound / ours, 2),
        "their_share": round(bound / theirs, 2), "equal": equal("theirs"), **of_peer,
    }  # fmt: skip


def turns_case(folder: Path, work: str, *, precision: str, threads: int, turns: int, repeats: int) -> dict[str, Any]:
    """Measure the first token of a conversation's last turn, with the turns before it kept and without."""
    from instil.generation.decoder.plain import PlainRows
    from instil.generation.decoder.prefixes import PREFIX_BYTES, Prefixes

    torch.set_num_threads(threads)
    steps = steps_of(load(folder, precision))
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, 4_000, (turns * (PROMPT_TOKENS + ANSWER_TOKENS),), generator=generator).tolist()
    seconds: dict[bool, list[float]] = {True: [], False: []}
    logits: dict[bool, torch.Tensor] = {}
    reused = 0
    for _ in range(repeats):
        for kept in (True, False):
            steps.prefixes = Prefixes(PREFIX_BYTES) if kept else None
            if kept:
                before = PlainRows(steps)
                before.add([ids[: (turns - 1) * (PROMPT_TOKENS + ANSWER_TOKENS)]])
                before.keep([])
            rows, prompt = PlainRows(steps), ids[:-ANSWER_TOKENS]
            spent, logits[kept] = timed(lambda rows=rows, prompt=prompt: rows.add([prompt]))
            seconds[kept].append(spent)
            reused = max(reused, *rows.num_reused)
    known, whole = (statistics.median(seconds[kept]) for kept in (True, False))
    difference = (logits[True] - logits[False]).abs().max() / logits[False].abs().max()
    return {
        "work": f"turn {turns} of {work}", "precision": precision, "threads": threads,
        "prompt": len(ids) - ANSWER_TOKENS, "reused": reused, "ms": round(1e3 * known, 1),
        "ms_without": round(1e3 * whole, 1), "ratio": round(whole / known, 2), "difference": f"{difference:.1g}",
    }  # fmt: skip


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_model_options(parser, template="chatml", what="the work 135m takes")
    parser.add_argument("--work", type=words_of(*WORKS), default="demo,135m")
    parser.add_argument("--precision", type=words_of("fp32", "bf16"), default="fp32,bf16")
    parser.add_argument("--threads", type=count, default=1)
    parser.add_argument("--rows", type=counts, default="1,2,4,8", help="sizes of the batch")
    parser.add_argument("--steps", type=count, default=24)
    parser.add_argument("--repeats", type=count, default=3)
    parser.add_argument("--turns", type=count, default=10, help="turns of the conversation, from 2")
    parser.add_argument("--peer", choices=("llama.cpp", "none"), default="llama.cpp", help="beside transformers")
    parser.set_defaults(data=None, subset=None)
    return parser


def main() -> None:
    """Measure the requested cases and print them."""
    args = build_parser().parse_args()
    cases = []
    with tempfile.TemporaryDirectory(prefix="instil-decoding-") as scratch:
        inputs = inputs_of(args, Path(scratch), own_rows="none are read")
        for work in args.work:
            (Path(scratch) / work).mkdir()
            folder = write_start(work, Path(scratch) / work, inputs)
            for precision in args.precision:
                for rows in args.rows:
                    found = case(
                        folder, work, precision=precision, rows=rows, threads=args.threads, steps=args.steps,
                        repeats=args.repeats, peer=args.peer,
                    )  # fmt: skip
                    print(" ".join(f"{key}={value}" for key, value in found.items()), flush=True)
                    cases.append(found)
                found = turns_case(
                    folder, work, precision=precision, threads=args.threads, turns=args.turns, repeats=args.repeats
                )
                print(" ".join(f"{key}={value}" for key, value in found.items()), flush=True)
                cases.append(found)
    print(json.dumps({"cases": cases, "inputs": inputs.record()}))


if __name__ == "__main__":
    main()
