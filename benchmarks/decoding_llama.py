"""llama.cpp's side of `decoding.py`: decodes one token of each row whenever it is told to, and says how long it took.

    python decoding_llama.py FILE.gguf THREADS ROWS COLUMNS

Runs under the Python of an environment with llama-cpp-python, through its C functions, so no sampler and no text is in
the way. Lines of JSON on standard input are commands, each answered by a line on standard output:

    {"prompts": [[…], …]}    read them, each into a sequence of its own; forget the ones before
    {"tokens": […]}          append one token to each

The answer is ``{"seconds": …, "tokens": […]}``: the time of the forward pass, and the most likely next token of each row.
The cache of keys and values is llama.cpp's default, f16.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any


class Rows:
    """Sequences in one context of llama.cpp."""

    def __init__(self, path: str, *, threads: int, rows: int, columns: int) -> None:
        import llama_cpp
        import numpy

        self._lib: Any = llama_cpp
        self._numpy: Any = numpy
        llama_cpp.llama_backend_init()
        model = llama_cpp.llama_model_load_from_file(os.fsencode(path), llama_cpp.llama_model_default_params())
        if not model:
            raise SystemExit(f"{path}: llama.cpp cannot load it.")
        settings = llama_cpp.llama_context_default_params()
        settings.n_ctx, settings.n_batch, settings.n_seq_max = rows * columns, rows * columns, rows
        settings.n_threads = settings.n_threads_batch = threads
        settings.no_perf = True
        self._context: Any = llama_cpp.llama_init_from_model(model, settings)
        self._vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
        self._batch: Any = llama_cpp.llama_batch_init(rows * columns, 0, 1)
        self._lengths = [0] * rows

    def start(self, prompts: list[list[int]]) -> tuple[float, list[int]]:
        """Forget all rows and read prompts."""
        self._lib.llama_memory_clear(self._lib.llama_get_memory(self._context), True)
        self._lengths = [0] * len(prompts)
        return self.append(prompts)

    def append(self, pieces: list[list[int]]) -> tuple[float, list[int]]:
        """Append tokens to each row; return the seconds, and the most likely next token of each."""
        batch, place, last = self._batch, 0, []
        for row, ids in enumerate(pieces):
            for token in ids:
                batch.token[place], batch.pos[place] = token, self._lengths[row]
                batch.n_seq_id[place], batch.seq_id[place][0] = 1, row
                batch.logits[place] = 0
                self._lengths[row] += 1
                place += 1
            batch.logits[place - 1] = 1
            last.append(place - 1)
        batch.n_tokens = place
        begin = time.perf_counter()
        status = self._lib.llama_decode(self._context, batch)
        rows = [self._lib.llama_get_logits_ith(self._context, at) for at in last]  # waits for the pass to end
        seconds = time.perf_counter() - begin
        if status:
            raise SystemExit(f"llama_decode: status {status}")
        views = [self._numpy.ctypeslib.as_array(row, shape=(self._vocabulary,)) for row in rows]
        return seconds, [int(view.argmax()) for view in views]


def main() -> None:
    """Answer commands until standard input ends."""
    path, threads, rows, columns = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the library prints is not an answer
    sequences = Rows(path, threads=int(threads), rows=int(rows), columns=int(columns))
    for line in sys.stdin:
        command = json.loads(line)
        if "prompts" in command:
            seconds, tokens = sequences.start(command["prompts"])
        else:
            seconds, tokens = sequences.append([[token] for token in command["tokens"]])
        print(json.dumps({"seconds": seconds, "tokens": tokens}), file=answers, flush=True)


if __name__ == "__main__":
    main()
