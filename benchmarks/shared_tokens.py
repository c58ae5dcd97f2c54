"""Measure what a process keeps of an example that several processes share (`parallel.sequence`).

    python benchmarks/shared_tokens.py [--shape tiny-llama-3.2-1b] [--tokens 8192] [--processes 1,2,4] [--threads N]

For each number of processes, that many are started on this machine. They share one example and compute its loss and
gradients once. Of the first process this prints

- the tokens that it holds,
- the bytes that autograd saves for the backward pass, weights not counted: the activations,
- how much its peak resident size grew in the step,

and what the plan says of the activations. The losses must be equal.

Takes no data: ids are random, so only the number of tokens counts. The last line of the output is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
from typing import Any

from options import count, counts
from shapes import SHAPES, build_config

MB = 2**20
VOCABULARY = 4096


def step_of_one(shape: str, tokens: int, processes: int) -> dict[str, Any]:
    """Compute the loss and gradients of one example, as one of the processes that share it, and return the figures."""
    import numpy as np
    import torch
    from transformers import AutoModelForCausalLM

    from instil.conversation import Example
    from instil.model.attention.flat import register_attention
    from instil.model.loss.token_loss import TokenLoss
    from instil.recipe import ParallelSettings
    from instil.training.memory.estimate import _Saved, measure_sizes
    from instil.training.memory.usage import peak_rss_mb
    from instil.training.processes.join import join_ranks
    from instil.training.step.micro_batch import lay_flat
    from instil.training.step.passes import forward
    from instil.training.step.precision import choose_precision

    longest = max(tokens, SHAPES[shape]["max_position_embeddings"])
    config = build_config(shape, vocab_size=VOCABULARY, max_position_embeddings=longest)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=register_attention())
    random = np.random.default_rng(0)
    trained = (np.arange(tokens) >= tokens // 2).astype(np.float32)
    example = Example(random.integers(0, VOCABULARY, tokens), trained)
    with join_ranks(ParallelSettings(processes=processes, sequence=processes), device_name="cpu") as ranks:
        sizes = measure_sizes(model, choose_precision("fp32", ranks.device))
        loss = TokenLoss(model, sequence=ranks.sequence).train()
        batch = lay_flat([example], numbers=[0], sequence=ranks.sequence)
        # Gradients exist before the step, so that its growth is that of the activations.
        for weight in model.parameters():
            weight.grad = torch.zeros_like(weight)
        saved = _Saved({weight.untyped_storage()._cdata for weight in model.parameters()})
        before = peak_rss_mb()
        with torch.autograd.graph.saved_tensors_hooks(saved.pack, lambda kept: kept):
            loss_sum = forward(loss, batch, seed=0, epoch=0)
        saved._alive.clear()
        torch.autograd.backward(loss_sum / tokens)
        return {
            "tokens": batch.input_ids.shape[0],
            "saved_mb": saved.total / MB,
            "planned_mb": sizes.saved_per_token * batch.input_ids.shape[0] / MB,
            "grown_mb": peak_rss_mb() - before,
            "loss": ranks.sum_numbers(float(loss_sum.detach()) / tokens)[0],
        }


def measure(shape: str, tokens: int, processes: int, threads: int) -> dict[str, Any]:
    """Start the processes, and return the figures of the first one."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    words = [sys.executable, __file__, "--shape", shape, "--tokens", str(tokens), "--threads", str(threads)]
    words += ["--one-of", str(processes)]
    shared = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(processes)}
    children = [
        subprocess.Popen(words, env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}, stdout=subprocess.PIPE)
        for rank in range(processes)
    ]
    outputs = [child.communicate()[0] for child in children]
    if any(child.returncode for child in children):
        raise SystemExit(f"{processes} processes: exit codes {[child.returncode for child in children]}")
    figures: dict[str, Any] = json.loads(outputs[0])
    return figures


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="tiny-llama-3.2-1b", choices=sorted(SHAPES))
    parser.add_argument("--tokens", type=count, default=8192, help="length of the example")
    parser.add_argument("--processes", type=counts, default="1,2,4")
    parser.add_argument("--threads", type=count, default=torch.get_num_threads(), help="of each process")
    parser.add_argument("--one-of", type=int, help=argparse.SUPPRESS)
    return parser


def main() -> None:
    """Measure each number of processes, and print a line for it."""
    import torch

    args = build_parser().parse_args()
    torch.set_num_threads(args.threads)
    if args.one_of:
        print(json.dumps(step_of_one(args.shape, args.tokens, args.one_of)))
        return
    result = {}
    for processes in args.processes:
        figures = result[processes] = measure(args.shape, args.tokens, processes, args.threads)
        print(
            f"{processes} processes: {figures['tokens']:,} tokens each, {figures['saved_mb']:.1f} MB of activations "
            f"(planned {figures['planned_mb']:.1f}), peak +{figures['grown_mb']:.1f} MB, loss {figures['loss']:.6f}",
            flush=True,
        )
    losses = [figures["loss"] for figures in result.values()]
    if max(losses) - min(losses) > 1e-4:
        raise SystemExit(f"the losses differ: {losses}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
