"""One side of benchmarks/cluster.py, in a process of its own: a preparation by worker processes, or on Ray.

    python benchmarks/cluster_sides.py none|ray DATA TOKENIZER STORE WORKERS [ROWS]

The last line of the output is one JSON object. `start_s` is the time until the first result: imports and start of the
workers, and of Ray. `steady` is the rate from the first result to the last one. `cpu_s` is the CPU time of this process
and its workers, without Ray's own processes. Memory is the largest sum that was seen, of proportional sizes (PSS, where
shared pages count once): `driver_mb` of this process, `workers_mb` of those that encode, `ours_mb` of both at the same
moment, `ray_mb` of Ray's own processes. `file_mb` is what this process maps of files: pages of the store, mostly, which
the system takes back when it needs them. `grows` has the rows and `driver_mb` after each tenth of `ROWS`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil

POLL_SECONDS = 1.0


class Memory(threading.Thread):
    """Measures this process and those below it now and then.

    Attributes:
        peak: The largest sums in MiB.
        grows: Pairs of a number of rows and the size of this process at that moment.
        num_rows: Rows so far, as the preparation reports them.
        workers_cpu: CPU seconds of the workers, when they were last seen.
    """

    def __init__(self, step: int | None) -> None:
        """Prepare to measure.

        Args:
            step: Rows between two entries of `grows`; None keeps none.
        """
        super().__init__(daemon=True)
        self.peak = dict.fromkeys(("driver_mb", "workers_mb", "ours_mb", "ray_mb", "file_mb"), 0.0)
        self.grows: list[tuple[int, float]] = []
        self.num_rows = 0
        self.workers_cpu = 0.0
        self._step = step
        self._end = threading.Event()

    def run(self) -> None:
        while not self._end.wait(POLL_SECONDS):
            self.look()

    def look(self) -> None:
        """Measure once."""
        sums = {"driver_mb": psutil.Process().memory_full_info().pss, "workers_mb": 0, "ray_mb": 0}
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                sums["workers_mb" if encodes(process) else "ray_mb"] += process.memory_full_info().pss
        sums["ours_mb"] = sums["driver_mb"] + sums["workers_mb"]
        sums["file_mb"] = file_bytes()
        self.workers_cpu = max(self.workers_cpu, workers_cpu())
        for name, size in sums.items():
            self.peak[name] = max(self.peak[name], round(size / 2**20, 1))
        if self._step and self.num_rows >= self._step * (len(self.grows) + 1):
            self.grows.append((self.num_rows, round(sums["driver_mb"] / 2**20, 1)))

    def end(self) -> dict[str, float]:
        """Stop, and return the largest sums."""
        self._end.set()
        self.join()
        return self.peak


def file_bytes() -> int:
    """Return the proportional size of the pages of files that this process maps."""
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss_File:")) * 1024


def encodes(process: psutil.Process) -> bool:
    """Return whether a process below this one runs our code: a worker of ours, or of Ray with a task of ours."""
    words = process.cmdline()
    return bool(words) and (words[0].startswith("ray::") or "multiprocessing" in " ".join(words))


def workers_cpu() -> float:
    """Return the CPU seconds of the workers below this process that are alive."""
    total = 0.0
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if encodes(process):
                times = process.cpu_times()
                total += times.user + times.system
    return total


def main() -> None:
    cluster, data, tokenizer, store, workers, *rows = sys.argv[1:]
    from instil.encoding.chat_tokenizer import ChatTokenizer
    from instil.files import sha256_of
    from instil.preparation.prepare import prepare
    from instil.recipe import Recipe

    settings: dict[str, Any] = {"sources": [data], "store": store, "cluster": cluster, "workers": int(workers)}
    recipe = Recipe.from_mapping({"data": settings})
    chat = ChatTokenizer.from_pretrained(tokenizer)
    memory = Memory(max(1, int(rows[0]) // 10) if rows else None)
    memory.start()
    marks: list[tuple[float, float, int]] = []
    started = time.perf_counter()

    def mark(num_rows: int) -> None:
        memory.num_rows = num_rows
        # The workers' CPU time is looked up for the first result alone; later ones have to cost nothing.
        marks.append((time.perf_counter() - started, 0.0 if marks else workers_cpu(), num_rows))

    before = os.times()
    prepared = prepare(recipe, chat, on_progress=mark)
    seconds = time.perf_counter() - started
    after = os.times()
    own = after.user + after.system - before.user - before.system
    ended = after.children_user + after.children_system - before.children_user - before.children_system
    cpu = own + (memory.workers_cpu if cluster == "ray" else ended)
    (first, first_cpu, first_rows), (last, _, last_rows) = marks[0], marks[-1]
    peak = memory.end()  # before the files are read again
    lines = "".join(f"{path.name} {sha256_of(path)}\n" for path in sorted(prepared.folder.iterdir()))
    figures = {
        "rows": last_rows,
        "seconds": round(seconds, 2),
        "start_s": round(first, 2),
        "steady": round((last_rows - first_rows) / (last - first), 1) if last > first else None,
        "cpu_s": round(cpu, 2),
        "steady_cpu_s": round(cpu - first_cpu, 2),
        "bytes": hashlib.sha256(lines.encode()).hexdigest(),
        **peak,
        "grows": memory.grows,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    assert Path(sys.argv[2]).exists()
    main()
