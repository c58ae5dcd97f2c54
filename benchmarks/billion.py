"""Work out what a large run takes: nodes, hours, memory by kind, and the network of a step.

    python benchmarks/billion.py [--conversations 1e9] [--gpus 512] [--mfu 0.4] [--micro-tokens 8192] …

Measured figures are defaults; `benchmarks/RESULTS.md` has the command of each. What nobody has measured with instil is an
assumption and marked so: the hardware, and the share of its arithmetic that training reaches. Memory by kind is the
estimate of `instil plan`, for the model's shape on the meta device. docs/how-it-works/scaling.md reads the result.

Takes no data: it is arithmetic. The last line of the output is one JSON object.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from options import count
from shapes import SHAPES, build_config

SHAPE = "llama-3.1-70b"
GB = 1e9
HOUR = 3600.0


@dataclass(frozen=True)
class Line:
    """One line of the result.

    Attributes:
        stage: The stage.
        what: What it is.
        value: The value.
        unit: Its unit.
        how: How it follows from the inputs.
    """

    stage: str
    what: str
    value: float
    unit: str
    how: str

    def __str__(self) -> str:
        return f"{self.stage:<12} {self.what:<44} {self.value:>12,.4g} {self.unit:<9} {self.how}"


def sizes_of(shape: str) -> Any:
    """Return the sizes of a model, from its shape alone, and its precision: bf16 with fp32 masters."""
    import torch
    from transformers import AutoModelForCausalLM

    from instil.model.attention.flat import register_attention
    from instil.training.memory.estimate import measure_sizes
    from instil.training.step.precision import choose_precision

    config = build_config(shape)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, attn_implementation=register_attention())
    precision = choose_precision("bf16", torch.device("cpu"))
    return measure_sizes(model, precision), precision


def preparation(args: argparse.Namespace) -> Iterator[Line]:
    """Yield the lines of reading, encoding and merging."""
    rows = args.conversations
    yield Line("read", "JSON lines", rows * args.row_bytes / 1e12, "TB", "rows x bytes a row")
    yield Line("read", "hashing and cutting, one process", rows * args.cut_us / 1e6 / HOUR, "h", "rows x cut_us")
    yield Line("encode", "work of all workers", rows * args.encode_us / 1e6 / HOUR, "core h", "rows x encode_us")
    yield Line("encode", "shards and store, on a shared disk", rows * (args.shard_bytes + args.store_bytes) / 1e12, "TB",
               "rows x bytes a row of both")  # fmt: skip
    yield Line("merge", "the driver takes at most", 1e6 / args.merge_us, "rows/s", "1 / merge_us")
    yield Line("merge", "cores that keep it busy", args.encode_us / args.merge_us, "cores", "encode_us / merge_us")
    yield Line("merge", "merging, one process", rows * args.merge_us / 1e6 / HOUR, "h", "rows x merge_us")
    yield Line("merge", "the driver's memory at the end", rows * args.driver_bytes / GB, "GB", "rows x driver_bytes")
    yield Line("merge", "conversations that fit in its memory", args.node_gb * GB / args.driver_bytes, "rows",
               "node_gb / driver_bytes")  # fmt: skip


def training(args: argparse.Namespace, sizes: Any, precision: Any) -> Iterator[Line]:
    """Yield the lines of time and memory of training."""
    from instil.training.memory.estimate import MEMORY_KINDS, estimate_memory

    tokens, flops = args.conversations * args.tokens_a_row, 8 * sizes.parameters
    rate = args.tflops * 1e12 * args.mfu / flops
    yield Line("train", "tokens of an epoch", tokens, "tokens", "rows x tokens a row")
    yield Line("train", "a GPU computes", rate, "tokens/s", "tflops x mfu / 8 P: recomputed activations")
    yield Line("train", "nodes", args.gpus / args.gpus_a_node, "nodes", "gpus / gpus a node")
    yield Line("train", "one epoch", tokens / (rate * args.gpus) / HOUR, "h", "tokens / (rate x gpus)")
    memory = estimate_memory(
        sizes, precision, tokens=args.micro_tokens, optimizer="adamw", several=False, recompute=True, device="cuda",
        shards=args.gpus,
    )  # fmt: skip
    for kind in (*MEMORY_KINDS, "peak"):
        yield Line("memory", f"{kind}, a GPU", getattr(memory, kind) / GB, "GB", "instil's plan, sharded over all")
    num_blocks = SHAPES[SHAPE]["num_hidden_layers"]
    unit = 2 * 2 * sizes.parameters / num_blocks
    yield Line("memory", "a gathered block, two at a time", unit / GB, "GB",
               f"not in the plan: 2 x 2 P / {num_blocks} blocks")  # fmt: skip
    copy = 4 * sizes.parameters / GB
    yield Line("load", "the part of each node, by rows", copy * args.gpus_a_node / args.gpus, "GB", "4 P x its share")
    yield Line("load", "one complete copy on each node", copy, "GB", "4 P, where a model is not loaded by rows")


def network(args: argparse.Namespace, sizes: Any) -> Iterator[Line]:
    """Yield the lines of what goes over the network in a step, and onto the disk for a checkpoint."""
    flops = 8 * sizes.parameters
    received = 8 * sizes.parameters * (args.gpus - 1) / args.gpus
    seconds = args.micro_tokens * flops / (args.tflops * 1e12 * args.mfu)
    yield Line("network", "a GPU receives, a micro-batch", received / GB, "GB", "(2 x 2 + 4) P, by NCCL")
    yield Line("network", "that takes", received / (args.link_gb * GB), "s", "at link_gb a second")
    yield Line("network", "a micro-batch computes", seconds, "s", "micro tokens x 8 P / (tflops x mfu)")
    yield Line("network", "shortest micro-batch that hides it", args.micro_tokens * received / (args.link_gb * GB) / seconds,
               "tokens", "where both take as long")  # fmt: skip
    checkpoint = args.checkpoint_bytes * sizes.parameters
    yield Line("checkpoint", "one checkpoint, and its mirror", checkpoint / GB, "GB", "checkpoint_bytes x P")
    yield Line("checkpoint", "a node writes", checkpoint * args.gpus_a_node / args.gpus / GB, "GB", "its share")
    yield Line("checkpoint", "that takes", checkpoint * args.gpus_a_node / args.gpus / (args.disk_gb * GB), "s",
               "at disk_gb a second and node")  # fmt: skip


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    measured, assumed = parser.add_argument_group("measured"), parser.add_argument_group("assumed")
    for name, value, text in MEASURED:
        measured.add_argument(f"--{name}", type=float, default=value, help=f"{text} ({value:g})")
    for name, value, text in ASSUMED:
        assumed.add_argument(f"--{name}", type=float, default=value, help=f"{text} ({value:g})")
    for name, value, text in COUNTS:
        assumed.add_argument(f"--{name}", type=count, default=value, help=f"{text} ({value})")
    return parser


MEASURED = (
    ("row-bytes", 633.0, "bytes of a conversation as JSON"),
    ("tokens-a-row", 222.8, "tokens of a conversation"),
    ("cut-us", 4.0, "driver: microseconds a row until the rows are found"),
    ("encode-us", 403.0, "worker: microseconds a row"),
    ("merge-us", 7.5, "driver: microseconds a row from the first result to the last"),
    ("driver-bytes", 195.0, "driver: bytes a row at the end of a preparation"),
    ("shard-bytes", 1246.0, "bytes of a row in the shards"),
    ("store-bytes", 1019.0, "bytes of a row in the store"),
    ("checkpoint-bytes", 12.0, "bytes of a trained number in a checkpoint"),
)
ASSUMED = (
    ("conversations", 1e9, "conversations of an epoch"),
    ("tflops", 989.0, "dense bf16 TFLOP/s of a GPU, as its vendor says"),
    ("mfu", 0.4, "share of them that training reaches"),
    ("link-gb", 50.0, "GB/s between nodes, a GPU"),
    ("disk-gb", 2.0, "GB/s onto the shared disk, a node"),
    ("node-gb", 1000.0, "memory of a node in GB"),
)
COUNTS = (
    ("gpus", 512, "GPUs"),
    ("gpus-a-node", 8, "GPUs of a node"),
    ("micro-tokens", 8192, "tokens of a micro-batch, a GPU"),
)


def main() -> None:
    """Print all lines."""
    args = build_parser().parse_args()
    sizes, precision = sizes_of(SHAPE)
    lines = [*preparation(args), *training(args, sizes, precision), *network(args, sizes)]
    for line in lines:
        print(line)
    print(json.dumps({"parameters": sizes.parameters, **{f"{one.stage}: {one.what}": one.value for one in lines}}))


if __name__ == "__main__":
    main()
