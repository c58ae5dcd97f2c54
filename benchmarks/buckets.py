"""Measure data from a bucket and a run that is copied to one, against an S3 server on loopback.

    python benchmarks/buckets.py [--rows 200000] [--steps 60] [--every 10] [--repeats 3]

Takes no data: it makes rows of about a kilobyte, and trains the demo's model on the demo's rows. moto's server (package
`moto[server]`) runs in a process of its own, on this machine: the network costs nothing here, and the server's work does.

Reading: bytes and requests for the first rows of a large file, for all of it, and for all of it again. Copying: the
middle of the seconds of a step without and with `checkpoint.mirror`, in turns, the seconds of the whole run, and the CPU
seconds of the process that trains, which the server's work is no part of. The last line of the output is one JSON object.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from options import count

BUCKET = "measured"


@contextlib.contextmanager
def s3_server() -> Iterator[None]:
    """Start an S3 server in a process of its own, and have the environment name it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ.update(
        AWS_ENDPOINT_URL=f"http://127.0.0.1:{port}",
        AWS_ACCESS_KEY_ID="loopback",
        AWS_SECRET_ACCESS_KEY="loopback",
        AWS_DEFAULT_REGION="us-east-1",
    )
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.1)
        yield
    finally:
        server.terminate()
        server.wait()


class Counted:
    """Counts what is read: bytes and requests for them."""

    def __init__(self) -> None:
        from instil.remote.storage import Storage

        self.bytes = self.requests = 0
        read_part = Storage.read_part

        def counted(storage: Storage, url: str, start: int, end: int) -> bytes:
            data = read_part(storage, url, start, end)
            self.bytes += len(data)
            self.requests += 1
            return data

        Storage.read_part = counted  # type: ignore[method-assign]

    def since(self, before: tuple[int, int], seconds: float) -> dict[str, Any]:
        """Return the figures since an earlier state."""
        return {
            "megabytes": round((self.bytes - before[0]) / 1e6, 2),
            "requests": self.requests - before[1],
            "seconds": round(seconds, 2),
        }

    @property
    def now(self) -> tuple[int, int]:
        """The state now."""
        return self.bytes, self.requests


def measure_reading(num_rows: int) -> dict[str, Any]:
    """Read the first rows of a large file, all of it, and all of it again."""
    import s3fs

    from instil.data.sources.rows import read_raw_rows

    url = f"s3://{BUCKET}/rows.jsonl"
    row = json.dumps({"question": "How many?", "answer": "word " * 190})
    data = "".join(f'{row[:-1]}, "number": {number}}}\n' for number in range(num_rows)).encode()
    system = s3fs.S3FileSystem()
    system.mkdir(BUCKET)
    system.pipe_file(url, data)
    counted = Counted()
    found: dict[str, Any] = {"file_megabytes": round(len(data) / 1e6, 1)}
    for name, rows in (("first 100 rows", 100), ("all rows", None), ("all rows again", None)):
        before, start = counted.now, time.perf_counter()
        number = sum(1 for _ in islice(read_raw_rows(url), rows))
        assert number == (rows or num_rows)
        found[name] = counted.since(before, time.perf_counter() - start)
    return found


def train_once(folder: Path, *, steps: int, every: int, mirror: str | None) -> dict[str, float]:
    """Train the demo's model; return the middle of the seconds of a step, those of all steps and of the run, and CPU seconds."""
    import instil

    recipe = {
        "model": "demo",
        "output": str(folder),
        "training": {"max_steps": steps, "batch_size": 16},
        "evaluate": {"every": steps},
        "checkpoint": {"every": every, "mirror": mirror},
        "data": {"heldout_share": 0},
    }
    rows = [{"question": f"What is {n} + {n}?", "answer": f"It is {2 * n}."} for n in range(2000)]
    start, cpu = time.perf_counter(), time.process_time()
    run = instil.train(recipe, data=rows, quiet=True)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    steps_taken = [line["seconds"]["total"] for line in run.metrics() if "loss" in line]
    return {"step": statistics.median(steps_taken), "steps": sum(steps_taken), "run": seconds, "cpu": cpu}


def measure_copying(*, steps: int, every: int, repeats: int) -> dict[str, Any]:
    """Train without and with a mirror in turns."""
    found: dict[str, list[dict[str, float]]] = {"alone": [], "copied": []}
    size = 0
    for number in range(repeats):
        for kind, mirror in (("alone", None), ("copied", f"s3://{BUCKET}/runs-{number}")):
            folder = Path(tempfile.mkdtemp()) / "run"
            found[kind].append(train_once(folder, steps=steps, every=every, mirror=mirror))
            checkpoint = max((folder / "checkpoints").iterdir())
            size = sum(path.stat().st_size for path in checkpoint.iterdir())
            shutil.rmtree(folder.parent)
    middle = {
        kind: {name: round(statistics.median(run[name] for run in runs), 4) for name in runs[0]}
        for kind, runs in found.items()
    }
    num_copies = -(-steps // every)
    cpu_a_copy = round((middle["copied"]["cpu"] - middle["alone"]["cpu"]) / num_copies, 3)
    ratio = round(middle["copied"]["step"] / middle["alone"]["step"], 3)
    return {
        "checkpoint_megabytes": round(size / 1e6, 1),
        **middle,
        "step_ratio": ratio,
        "cpu_a_copy": cpu_a_copy,
        "repeats": repeats,
    }


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=count, default=200_000, help="rows of the large file")
    options.add_argument("--steps", type=count, default=60, help="steps of each run")
    options.add_argument("--every", type=count, default=10, help="steps between two checkpoints")
    options.add_argument("--repeats", type=count, default=3, help="runs of each kind")
    return options


def main() -> None:
    """Run the benchmark."""
    chosen = build_parser().parse_args()
    with tempfile.TemporaryDirectory() as cache, s3_server():
        os.environ["INSTIL_CACHE"] = cache
        found = {"reading": measure_reading(chosen.rows)}
        print(json.dumps(found, indent=1))
        found["copying"] = measure_copying(steps=chosen.steps, every=chosen.every, repeats=chosen.repeats)
        print(json.dumps(found["copying"], indent=1))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
