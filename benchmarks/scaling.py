"""Measure how the cost of a step grows with its tokens, and what a larger vocabulary costs.

    python benchmarks/scaling.py [--tokens 1024,4096,16384,65536] [--shape tiny-llama-3.2-1b] [--repeats 3] [--threads
                                 N] [--only tokens|vocabulary]

`tokens`: steps of a random model over examples of 256 tokens, half of them trained. The seconds per thousand tokens
should stay the same from the smallest step to the largest.

`vocabulary`: two steps of the SmolLM2-135M shape, with its vocabulary and with twice as many tokens, tied and untied,
each in a process of its own. The growth of the peak resident size stands beside the growth of the weights, gradients
and optimizer state of embedding and head. If both share a table, its two gradients exist at the same time before they
are added.

Takes no data: ids are random, so only the number of tokens counts. The last line of the output is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from typing import Any

from options import count, counts, words_of
from shapes import SHAPES, build_config

LENGTH = 256
VOCABULARY = 16384
WIDE_SHAPE = "smollm2-135m"
WIDE_VOCABULARY = 49152


def make_learner(shape: str, tokens: int, **settings: Any) -> Any:
    """Build a random model for training, with the examples of one step in its store."""
    import numpy as np
    import torch
    from transformers import AutoModelForCausalLM

    from instil.conversation import Example
    from instil.model.attention.flat import register_attention
    from instil.model.loss.token_loss import TokenLoss
    from instil.preparation.store import ExampleStore
    from instil.training.processes.ranks import Ranks
    from instil.training.step.learner import Learner
    from instil.training.step.optimizer import build_optimizers
    from instil.training.step.precision import Weights, choose_precision
    from instil.training.step.tensor_kinds import tensor_kinds

    config = build_config(shape, **settings)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=register_attention())
    device = torch.device("cpu")
    weights = Weights(model, choose_precision("fp32", device))
    optimizers = build_optimizers(weights.by_name, tensor_kinds(model), lr=1e-5)
    random = np.random.default_rng(0)
    trained = (np.arange(LENGTH) >= LENGTH // 2).astype(np.float32)
    examples = [Example(random.integers(0, config.vocab_size, LENGTH), trained) for _ in range(tokens // LENGTH)]
    store = ExampleStore.from_examples(examples)
    return Learner(TokenLoss(model).train(), weights, optimizers, store, Ranks(0, 1, device))


def seconds_of_step(learner: Any, tokens: int) -> float:
    """Take one step over the first `tokens` tokens of the store, and return its seconds."""
    from instil.training.step.learner import Cut
    from instil.training.step.order import Members
    from instil.training.step.take_step import take_step

    members = Members(1, 0, tuple(range(tokens // LENGTH)))
    start = time.perf_counter()
    take_step(learner, members, cut=Cut(2048), seed=0, learning_rate=1e-5, clip=1.0)
    return time.perf_counter() - start


def peak_of(vocabulary: int, tied: bool) -> dict[str, float]:
    """Take two steps; return the peak of this process, and the size of embedding and head in training, in MB."""
    from instil.training.memory.usage import peak_rss_mb

    learner = make_learner(WIDE_SHAPE, 2048, vocab_size=vocabulary, tie_word_embeddings=tied)
    for _ in range(2):
        seconds_of_step(learner, 2048)
    model = learner.loss.model
    users = (model.get_input_embeddings().weight, model.get_output_embeddings().weight)
    tables = {id(weight): weight.nbytes for weight in users}
    # Weight and two moments of each table; a gradient from each user of it.
    table_bytes = 3 * sum(tables.values()) + sum(weight.nbytes for weight in users)
    return {
        "peak_mb": peak_rss_mb(),
        "tables_mb": table_bytes / 2**20,
    }


def measure_tokens(shape: str, sizes: list[int], repeats: int) -> dict[int, float]:
    """Print and return the seconds per thousand tokens for steps of each size.

    The sizes run in turns, and the process keeps freed memory, as in a run.
    """
    from instil.training.process_settings import freed_memory_kept

    learner = make_learner(shape, max(sizes), vocab_size=VOCABULARY)
    seconds: dict[int, list[float]] = {size: [] for size in sizes}
    with freed_memory_kept():
        seconds_of_step(learner, sizes[0])
        for _ in range(repeats):
            for size in sizes:
                seconds[size].append(seconds_of_step(learner, size))
    cost = {size: statistics.median(taken) / size * 1000 for size, taken in seconds.items()}
    for size, of_thousand in cost.items():
        print(f"{size:>7,} tokens: {of_thousand:.4f} s per thousand", flush=True)
    return cost


def measure_vocabulary(tied: bool, threads: int) -> dict[str, float]:
    """Print and return what twice the vocabulary adds to the peak, and to embedding and head in training, in MB."""
    words = [sys.executable, __file__, "--threads", str(threads), *(["--tied"] if tied else []), "--peak-of"]
    once, twice = (
        json.loads(subprocess.run([*words, str(size)], capture_output=True, text=True, check=True).stdout)
        for size in (WIDE_VOCABULARY, 2 * WIDE_VOCABULARY)
    )
    growth = {name: round(twice[name] - once[name], 1) for name in once}
    print(
        f"vocabulary {WIDE_VOCABULARY:,} -> {2 * WIDE_VOCABULARY:,}, {'tied' if tied else 'untied'}: "
        f"peak +{growth['peak_mb']:.0f} MB, tables with their training +{growth['tables_mb']:.0f} MB",
        flush=True,
    )
    return growth


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=counts, default="1024,4096,16384,65536", help=f"at least {LENGTH} each")
    parser.add_argument("--shape", default="tiny-llama-3.2-1b", choices=sorted(SHAPES))
    parser.add_argument("--repeats", type=count, default=3)
    parser.add_argument("--threads", type=count, default=torch.get_num_threads())
    parser.add_argument(
        "--only", type=words_of("tokens", "vocabulary"), default="tokens,vocabulary", help="tokens, vocabulary, or both"
    )
    parser.add_argument("--peak-of", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--tied", action="store_true", help=argparse.SUPPRESS)
    return parser


def main() -> None:
    """Measure the requested parts and print them."""
    import torch

    parser = build_parser()
    args = parser.parse_args()
    if min(args.tokens) < LENGTH:
        parser.error(f"--tokens {min(args.tokens)}: expected at least {LENGTH}, the length of an example")
    torch.set_num_threads(args.threads)
    if args.peak_of:
        print(json.dumps(peak_of(args.peak_of, args.tied)))
        return
    result: dict[str, Any] = {}
    if "tokens" in args.only:
        result["seconds_a_thousand"] = measure_tokens(args.shape, args.tokens, args.repeats)
    if "vocabulary" in args.only:
        for tied in (True, False):
            result["tied" if tied else "untied"] = measure_vocabulary(tied, args.threads)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
