"""One side of benchmarks/cluster.py, in a process of its own: a preparation by worker processes, or on Ray.

    python benchmarks/cluster_sides.py none|ray DATA TOKENIZER STORE WORKERS

The last line of the output is one JSON object. `start_s` is the time until the first result: imports and start of the
workers, and of Ray. `steady` is the rate from the first result to the last one. `cpu_s` is the CPU time of this process
and its workers, without Ray's own processes. Memory is the largest sum that was seen: `driver_mb` of this process (RSS),
`workers_mb` of those that encode (USS), `ray_mb` of Ray's own processes (USS).
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

POLL_SECONDS = 0.5


class Memory(threading.Thread):
    """Measures this process and those below it now and then."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = dict.fromkeys(("driver_mb", "workers_mb", "ray_mb"), 0.0)
        self._end = threading.Event()

    def run(self) -> None:
        while not self._end.wait(POLL_SECONDS):
            self.look()

    def look(self) -> None:
        """Measure once."""
        sums = {"driver_mb": psutil.Process().memory_info().rss, "workers_mb": 0, "ray_mb": 0}
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                sums["workers_mb" if encodes(process) else "ray_mb"] += process.memory_full_info().uss
        for name, size in sums.items():
            self.peak[name] = max(self.peak[name], round(size / 2**20, 1))

    def end(self) -> dict[str, float]:
        """Stop, and return the largest sums."""
        self._end.set()
        self.join()
        return self.peak


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
    cluster, data, tokenizer, store, workers = sys.argv[1:]
    from instil.encoding.chat_tokenizer import ChatTokenizer
    from instil.files import sha256_of
    from instil.preparation.prepare import prepare
    from instil.ray_cluster import connected
    from instil.recipe import Recipe

    settings: dict[str, Any] = {"sources": [data], "store": store, "cluster": cluster, "workers": int(workers)}
    recipe = Recipe.from_mapping({"data": settings})
    chat = ChatTokenizer.from_pretrained(tokenizer)
    memory = Memory()
    memory.start()
    marks: list[tuple[float, float, int]] = []
    started = time.perf_counter()

    def mark(num_rows: int) -> None:
        # The workers' CPU time is looked up for the first result alone; later ones have to cost nothing.
        marks.append((time.perf_counter() - started, 0.0 if marks else workers_cpu(), num_rows))

    with connected(setting="data.cluster", processes=int(workers)) if cluster == "ray" else contextlib.nullcontext():
        before = os.times()
        prepared = prepare(recipe, chat, on_progress=mark)  # type: ignore[arg-type]
        seconds = time.perf_counter() - started
        after = os.times()
        own = after.user + after.system - before.user - before.system
        ended = after.children_user + after.children_system - before.children_user - before.children_system
        cpu = own + (workers_cpu() if cluster == "ray" else ended)
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
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    assert Path(sys.argv[2]).exists()
    main()
