"""Measure inference: batched generation, an evaluation of 1,000 prompts, and the server beside `transformers serve`.

    python benchmarks/after.py [--parts generate,evaluate,serve,load] [--work demo,135m] [--clients 1,8,32] [--seconds 120]
                               [--data FILE] [--model MODEL] [--template chatml]

Parts:

- `generate`: 32 prompts, greedy, 64 tokens, fp32, beside a loop of plain `model.generate`. Both run in turns in one
  process. The ids should be equal.
- `evaluate`: `demo` answers 1,000 short questions, greedy, 48 tokens. The seconds include loading.
- `serve`: time to the first token and tokens per second, with 1, 8 and 32 clients that stream 64 tokens each.
  `instil serve` and `transformers serve` run in turns on the same folder.
- `load`: 64 clients without a pause. Every answer must be complete.

Models: `demo` has chat tokens and ChatML; `135m` is a random model in the shape of SmolLM2-135M. Questions are made up;
with `--data` they are the first questions of its conversations. `transformers serve` needs the packages of
`pip install 'transformers[serving]'`, the clients need `openai`. The last line of the output is one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from options import Inputs, add_data_option, add_model_options, count, inputs_of, words_of
from train_step import WORKS, write_start

PARTS = ("generate", "evaluate", "serve", "load")
OWN_ROWS = "questions that are made up"
NUM_QUESTIONS = 1_000
NUM_PROMPTS = 32
NEW_TOKENS = 64
LEAST_ANSWERS = 24
CLIENTS = (1, 8, 32)


def questions(count: int, *, words: int = 8) -> list[str]:
    """Return questions of uneven length, the same ones on every call."""
    names = ("river", "planet", "metal", "animal", "city", "language", "invention", "colour", "number", "country")
    texts = []
    for number in range(count):
        middle = " ".join(names[(number * 7 + word * 3) % len(names)] for word in range(1 + number % words))
        texts.append(f"Question {number}: what is the {middle}?")
    return texts


def questions_of(inputs: Inputs) -> list[str]:
    """Return the questions of the benchmark: made up, or those of the data, repeated where there are too few."""
    if not inputs.sources:
        return questions(NUM_QUESTIONS)
    return list(islice(cycle(question for question, _ in inputs.pairs(NUM_QUESTIONS)), NUM_QUESTIONS))


def generate_case(work: str, model: Path, repeats: int, *, texts: list[str]) -> dict[str, Any]:
    """Compare batched answers with a loop of plain `model.generate`."""
    import torch

    from instil.conversation import Conversation, Message
    from instil.generation.engine import Engine
    from instil.generation.sampling import SamplingSettings, generate_batch
    from instil.generation.settings import LoadSettings

    engine = Engine.load(model, LoadSettings(precision="fp32", device="cpu"))
    conversations = [Conversation((Message("user", text),)) for text in texts[:NUM_PROMPTS]]
    prompts = [engine.prompt(conversation) for conversation in conversations]
    settings = SamplingSettings(max_new_tokens=NEW_TOKENS)

    def ours() -> list[list[int]]:
        answers = generate_batch(engine.model, prompts, settings=settings, stop_ids=engine.stop_ids)
        return [[*answer.token_ids, *([] if answer.stop_id is None else [answer.stop_id])] for answer in answers]

    def theirs() -> list[list[int]]:
        answers = []
        for prompt in prompts:
            ids = torch.tensor([prompt])
            output = engine.model.generate(  # type: ignore[operator]
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=NEW_TOKENS,
                do_sample=False,
                eos_token_id=list(engine.stop_ids),
                pad_token_id=0,
            )
            answers.append(output[0, len(prompt) :].tolist())
        return answers

    rates: dict[str, list[float]] = {"ours": [], "theirs": []}
    same = 0
    for _ in range(repeats):
        answers = {}
        for name, side in (("ours", ours), ("theirs", theirs)):
            start = time.perf_counter()
            answers[name] = side()
            rates[name].append(sum(map(len, answers[name])) / (time.perf_counter() - start))
        same = sum(a == b for a, b in zip(answers["ours"], answers["theirs"], strict=True))
    ours_rate, theirs_rate = statistics.median(rates["ours"]), statistics.median(rates["theirs"])
    return {
        "work": f"generate {work}",
        "precision": "fp32",
        "peer": "model.generate one by one",
        "ours": round(ours_rate, 1),
        "theirs": round(theirs_rate, 1),
        "ratio": round(ours_rate / theirs_rate, 2),
        "equal_answers": f"{same} of {NUM_PROMPTS}",
    }


def evaluate_case(model: Path, scratch: Path, *, texts: list[str]) -> dict[str, Any]:
    """Time `instil evaluate` on 1,000 short prompts, loading included."""
    rows = scratch / "rows.jsonl"
    rows.write_text(
        "".join(json.dumps({"question": text, "answer": "unknown"}) + "\n" for text in texts),
        encoding="utf-8",
    )
    words = ["evaluate", str(model), "--data", str(rows), "--task", "exact_match", "--max-new-tokens", "48"]
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "instil", *words, "--out", str(scratch / "report")],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    seconds = time.perf_counter() - start
    return {"work": "evaluate 1,000 prompts, demo", "precision": "fp32", "peer": None, "ours": round(seconds, 1),
            "theirs": None, "ratio": None, "unit": "seconds"}  # fmt: skip


class Server:
    """`instil serve` or `transformers serve` in a process of its own."""

    def __init__(self, kind: str, model: Path, port: int) -> None:
        self.kind, self.model, self.url = kind, str(model), f"http://127.0.0.1:{port}"
        words = {
            "instil": ["-m", "instil", "serve", self.model, "--port", str(port), "--device", "cpu"],
            "transformers": ["-m", "transformers.cli.transformers", "serve", self.model, "--port", str(port),
                             "--host", "127.0.0.1", "--device", "cpu", "--dtype", "float32"],
        }[kind]  # fmt: skip
        environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
        self.process = subprocess.Popen(
            [sys.executable, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
        )

    def __enter__(self) -> Server:
        import httpx2

        end = time.monotonic() + 180
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise SystemExit(
                    f"{self.kind} serve ended with status {self.process.returncode}. Expected a server. Install what it "
                    "needs (pip install 'instil[serve]' 'transformers[serving]'), or leave --parts serve out."
                )
            try:
                if httpx2.get(f"{self.url}/health", timeout=2).status_code == 200:
                    return self
            except httpx2.HTTPError:
                time.sleep(0.3)
        raise SystemExit(f"{self.kind} serve did not come up")

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


async def ask(server: Server, client: Any, text: str) -> tuple[float, float, int]:
    """Stream one answer; return seconds to the first piece, total seconds, and tokens."""
    start, first, tokens = time.perf_counter(), 0.0, 0
    stream = await client.chat.completions.create(
        model=server.model, messages=[{"role": "user", "content": text}], max_tokens=NEW_TOKENS, temperature=0.0,
        stream=True, stream_options={"include_usage": True},
    )  # fmt: skip
    async for piece in stream:
        if piece.choices and piece.choices[0].delta.content and not first:
            first = time.perf_counter() - start
        if piece.usage:
            tokens = piece.usage.completion_tokens
    return first, time.perf_counter() - start, tokens


async def clients_case(server: Server, num_clients: int, texts: list[str]) -> dict[str, float]:
    """Run clients at the same time, with two questions each, or more where a client is alone or nearly so."""
    import openai

    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=600) as client:
        await ask(server, client, "warm up")
        each = max(2, LEAST_ANSWERS // num_clients)
        start = time.perf_counter()

        async def one(number: int) -> list[tuple[float, float, int]]:
            return [await ask(server, client, text) for text in texts[each * number : each * (number + 1)]]

        answers = [answer for pair in await asyncio.gather(*map(one, range(num_clients))) for answer in pair]
        seconds = time.perf_counter() - start
    return {
        "first_token_seconds": round(statistics.median(first for first, *_ in answers), 4),
        "tokens_per_second": round(sum(tokens for *_, tokens in answers) / seconds, 1),
    }


def serve_cases(work: str, model: Path, *, texts: list[str], numbers: tuple[int, ...]) -> list[dict[str, Any]]:
    """Measure both servers, one after the other, at each number of clients."""
    figures: dict[str, dict[int, dict[str, float]]] = {}
    for number, kind in enumerate(("instil", "transformers")):
        with Server(kind, model, 18410 + number) as server:
            figures[kind] = {clients: asyncio.run(clients_case(server, clients, texts)) for clients in numbers}
    cases = []
    for clients in numbers:
        ours, theirs = figures["instil"][clients], figures["transformers"][clients]
        cases.append({
            "work": f"serve {work}, {clients} clients", "precision": "fp32", "peer": "transformers serve",
            "ours": ours["tokens_per_second"], "theirs": theirs["tokens_per_second"],
            "ratio": round(ours["tokens_per_second"] / max(theirs["tokens_per_second"], 1e-9), 2),
            "first_token": ours["first_token_seconds"], "their_first_token": theirs["first_token_seconds"],
        })  # fmt: skip
    return cases


def load_case(work: str, model: Path, seconds: float, *, texts: list[str]) -> dict[str, Any]:
    """Run 64 clients without a pause; count the answers that are lost."""

    async def hammer(server: Server) -> tuple[int, int]:
        import openai

        right = wrong = 0
        end = time.monotonic() + seconds
        limits = {"base_url": f"{server.url}/v1", "api_key": "none", "max_retries": 0, "timeout": 300}
        async with openai.AsyncOpenAI(**limits) as client:

            async def one(number: int) -> None:
                nonlocal right, wrong
                num_asked = 0
                while time.monotonic() < end:
                    text = texts[(number + num_asked) % 64]
                    num_asked += 1
                    try:
                        _, _, tokens = await ask(server, client, text)
                    except openai.OpenAIError:
                        wrong += 1
                    else:
                        right, wrong = (right + 1, wrong) if tokens else (right, wrong + 1)

            await asyncio.gather(*map(one, range(64)))
        return right, wrong

    with Server("instil", model, 18420) as server:
        right, wrong = asyncio.run(hammer(server))
    return {"work": f"load {work}, 64 clients, {seconds:g} s", "precision": "fp32", "peer": None, "ours": right,
            "theirs": None, "ratio": None, "unit": "answers", "lost": wrong}  # fmt: skip


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data_option(parser, default=OWN_ROWS)
    add_model_options(parser, template="chatml", what="the work 135m takes")
    parser.add_argument("--parts", type=words_of(*PARTS), default=",".join(PARTS), help="; ".join(PARTS))
    parser.add_argument("--work", type=words_of(*WORKS), default="demo,135m", help="evaluate and load: demo only")
    parser.add_argument(
        "--clients", type=words_of(*map(str, CLIENTS)), default=",".join(map(str, CLIENTS)), help="serve"
    )
    parser.add_argument("--repeats", type=count, default=3)
    parser.add_argument("--seconds", type=float, default=120.0, help="duration of `load`")
    return parser


def main() -> None:
    """Measure the requested parts and print them."""
    args = build_parser().parse_args()
    if {"serve", "load"} & set(args.parts) and importlib.util.find_spec("openai") is None:
        raise SystemExit(f"{' and '.join(args.parts)}: openai is not installed. Run: pip install openai")
    with tempfile.TemporaryDirectory(prefix="instil-after-") as scratch:
        inputs = inputs_of(args, Path(scratch), own_rows=OWN_ROWS)
        texts = questions_of(inputs)
        cases: list[dict[str, Any]] = []
        for work in args.work:
            folder = Path(scratch) / work
            folder.mkdir()
            model = write_start(work, folder, inputs)
            if "generate" in args.parts:
                cases.append(generate_case(work, model, args.repeats, texts=texts))
            if "evaluate" in args.parts and work == "demo":
                cases.append(evaluate_case(model, folder, texts=texts))
            if "serve" in args.parts:
                cases += serve_cases(work, model, texts=texts, numbers=tuple(map(int, args.clients)))
            if "load" in args.parts and work == "demo":
                cases.append(load_case(work, model, args.seconds, texts=texts))
    for case in cases:
        print(" ".join(f"{key}={value}" for key, value in case.items()))
    print(json.dumps({"cases": cases, "inputs": inputs.record()}))


if __name__ == "__main__":
    main()
