"""Measure what the one driver of a preparation on Ray costs a row, and how many rows it takes a second at most.

    python benchmarks/cluster_driver.py [--rows 50000] [--workers 1,2,4,8] [--task-seconds 0.02]

First the rows are encoded by two real workers, and their shards are kept. Then the driver does everything again, with
tasks that only wait `--task-seconds` and put a kept shard in place: workers that are many times as fast. With more of
them the rate grows until the driver is the limit. `merge` has no task at all: the driver's own reading, counting and
writing. All stores must have the same bytes.

A figure of the driver is its own CPU time, Ray's threads in it included, so other programs change it little:

- `cut_us`: hashing the files and finding the rows, a row;
- `merge_us`: from the first result to the last one, a row;
- `settle_us`: split, ledger and the store's end, a row;
- `encode_us`: CPU time of the two workers a row, from the first result to the last, in the real preparation.

The last line of the output is one JSON object.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cluster import many_rows
from cluster_sides import workers_cpu
from options import add_data_option, add_model_options, count, counts, inputs_of
from prepare import write_rows

from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.files import sha256_of
from instil.preparation.cluster import encode_on_ray
from instil.preparation.cluster.shards import Shards
from instil.preparation.prepare import prepare
from instil.ray_cluster import connected
from instil.recipe import Recipe

REAL_WORKERS = 2
Moment = tuple[float, float]
"""Seconds by the clock, and CPU seconds of this process."""


def now() -> Moment:
    """Return this moment."""
    times = os.times()
    return time.perf_counter(), times.user + times.system


class Marks:
    """The moments of one preparation."""

    def __init__(self) -> None:
        self.begun = self.cut = self.first = self.last = self.ended = now()
        self.first_rows = self.last_rows = 0
        self.first_workers = 0.0

    def progress(self, num_rows: int) -> None:
        """Mark a result."""
        self.last, self.last_rows = now(), num_rows
        if not self.first_rows:
            # After their imports. The moment is taken again: looking them up costs time.
            self.first_workers = workers_cpu()
            self.first, self.first_rows = now(), num_rows

    def figures(self) -> dict[str, float]:
        """Return the figures of the driver."""

        def us(start: Moment, end: Moment, rows: int) -> float:
            return round((end[1] - start[1]) / rows * 1e6, 2)

        merged = self.last_rows - self.first_rows
        return {
            "cut_us": us(self.begun, self.cut, self.last_rows),
            "merge_us": us(self.first, self.last, merged),
            "settle_us": us(self.last, self.ended, self.last_rows),
            "rows_per_s": round(merged / (self.last[0] - self.first[0])),
            "busy": round((self.last[1] - self.first[1]) / (self.last[0] - self.first[0]), 2),
        }


def placing(kept: Path, seconds: float) -> Callable[..., tuple[int, int]]:
    """Return a task that waits, and puts a kept shard where the driver expects it."""

    def place(job: Any, path: str, settings: Any, pickled: bytes) -> tuple[int, int]:
        time.sleep(seconds)
        os.link(kept / Path(path).name, path)
        return 0, 0

    return place


def measure(data: Path, chat: ChatTokenizer, store: Path, workers: int, *, in_place: bool = False) -> Any:
    """Prepare once; return the marks, what was prepared, and the workers' CPU seconds.

    Args:
        data: The rows.
        chat: The tokenizer.
        store: A new folder.
        workers: Tasks at once.
        in_place: Whether the driver puts the shards in place itself, without a task.
    """
    marks = Marks()
    task = encode_on_ray.encode_to_shard
    recipe = Recipe.from_mapping(
        {"data": {"sources": [str(data)], "store": str(store), "cluster": "ray", "workers": workers}}
    )

    class Tasks(encode_on_ray._Tasks):
        """The tasks, which mark when the rows are found."""

        def __init__(self, *args: Any) -> None:
            marks.cut = now()
            super().__init__(*args)

        def start(self, number: int, job: Any) -> Any:
            if in_place:
                task(job, str(self._shards.path(number)), None, b"")  # type: ignore[arg-type]
            return super().start(number, job)

    before, encode_on_ray._Tasks = encode_on_ray._Tasks, Tasks  # type: ignore[misc]
    try:
        with connected(setting="data.cluster", processes=workers):
            marks.begun = now()
            prepared = prepare(recipe, chat, on_progress=marks.progress)
            marks.ended = now()
            return marks, prepared, workers_cpu()
    finally:
        encode_on_ray._Tasks = before  # type: ignore[misc]


def size_of(folder: Path) -> int:
    """Return the bytes of the files in a folder."""
    return sum(path.stat().st_size for path in folder.iterdir())


def digest_of(folder: Path) -> str:
    """Return the digest of a store."""
    lines = "".join(f"{path.name} {sha256_of(path)}\n" for path in sorted(folder.iterdir()))
    return hashlib.sha256(lines.encode()).hexdigest()


def measured(data: Path, chat: ChatTokenizer, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Measure all cases."""
    kept, remove, task = folder / "kept", Shards.remove, encode_on_ray.encode_to_shard

    def keep(shards: Shards) -> None:
        shutil.copytree(shards.folder, kept, ignore=shutil.ignore_patterns("[!0-9]*"))
        remove(shards)

    Shards.remove = keep  # type: ignore[method-assign]
    marks, prepared, cpu = measure(data, chat, folder / "real", REAL_WORKERS)
    Shards.remove = remove  # type: ignore[method-assign]
    expected, rows = digest_of(prepared.folder), marks.last_rows
    sizes = {"rows": data.stat().st_size, "shards": size_of(kept), "store": size_of(prepared.folder)}
    tokens = int(prepared.train.num_tokens.sum() + prepared.heldout.num_tokens.sum())
    result = {
        "rows": rows,
        "bytes_a_row": {name: round(size / rows, 1) for name, size in sizes.items()},
        "tokens_a_row": round(tokens / rows, 1),
        "encode_us": round((cpu - marks.first_workers) / (rows - marks.first_rows) * 1e6, 1),
        "real": marks.figures(),
        "cases": [],
    }
    cases = [("merge", 1, 0.0, True), *((f"{n} workers", n, args.task_seconds, False) for n in args.workers)]
    for name, workers, seconds, in_place in cases:
        encode_on_ray.encode_to_shard = placing(kept, seconds)
        marks, prepared, _ = measure(data, chat, folder / name, workers, in_place=in_place)
        case = {"case": name, **marks.figures(), "same_bytes": digest_of(prepared.folder) == expected}
        result["cases"].append(case)
        print(case, file=sys.stderr, flush=True)
        shutil.rmtree(folder / name)
    encode_on_ray.encode_to_shard = task
    return result


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=count, default=50_000)
    parser.add_argument("--workers", type=counts, default="1,2,4,8", help="numbers of workers that only wait")
    parser.add_argument("--task-seconds", type=float, default=0.02, help="what such a worker needs for 512 rows")
    add_data_option(parser)
    add_model_options(parser, template=None, what="encodes the rows")
    return parser


def main() -> None:
    """Measure and print."""
    args = build_parser().parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        inputs = inputs_of(args, folder)
        chat = ChatTokenizer.from_pretrained(str(inputs.write_tokenizer(folder / "tokenizer")))
        data = write_rows(folder / "rows.jsonl", many_rows(inputs, args.rows))
        print(json.dumps({**measured(data, chat, folder, args), "inputs": inputs.record()}))


if __name__ == "__main__":
    main()
