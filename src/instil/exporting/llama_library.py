"""llama.cpp itself, through its Python package (extra ``quantise``): ids, logits and quantised files.

The one place that touches llama-cpp-python. Its C interface is used, because the package's class makes a context of
its own and prints.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import importlib.util
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from instil.errors import ExportError, first_line_of

_WARNING, _ERROR = 3, 4
"""Levels of llama.cpp's messages that are kept (ggml.h; the package's own table is one level lower)."""
_NO_ROOM = 2**20


def has_llama_cpp() -> bool:
    """Return whether llama-cpp-python is installed."""
    return importlib.util.find_spec("llama_cpp") is not None


def _library() -> Any:
    """Import llama-cpp-python.

    Raises:
        ExportError: If it is installed and cannot be loaded, for instance because it was compiled for another machine.
    """
    try:
        import llama_cpp
    except (ImportError, OSError, RuntimeError) as error:
        raise ExportError(
            f"gguf: llama-cpp-python is installed, but cannot be loaded ({first_line_of(error)}). Expected one that was "
            "compiled on this machine. Run: pip install --force-reinstall --no-cache-dir llama-cpp-python"
        ) from error
    return llama_cpp


@contextlib.contextmanager
def _kept_quiet(llama: Any) -> Iterator[list[str]]:
    """Keep llama.cpp's warnings and errors instead of printing every key that it reads."""
    messages: list[str] = []

    def keep(level: int, text: bytes, _: Any) -> None:
        if _WARNING <= level <= _ERROR and (message := text.decode("utf-8", "replace").strip()):
            messages.append(message)

    callback = llama.llama_log_callback(keep)
    llama.llama_log_set(callback, ctypes.c_void_p(0))
    try:
        yield messages
    finally:
        llama.llama_log_set(llama._logger.llama_log_callback, ctypes.c_void_p(0))


class LlamaFile:
    """A GGUF file that llama.cpp has opened; close it with `close`, or use it as a context."""

    def __init__(self, path: Path, *, vocabulary_only: bool = False) -> None:
        """Open a file.

        Args:
            path: The GGUF file.
            vocabulary_only: Read no weights; only ids can be made then.

        Raises:
            ExportError: If llama.cpp cannot read it.
        """
        self._llama = llama_cpp = _library()
        settings = llama_cpp.llama_model_default_params()
        settings.vocab_only, settings.n_gpu_layers = vocabulary_only, 0
        with _kept_quiet(llama_cpp) as messages:
            self._model = llama_cpp.llama_model_load_from_file(os.fsencode(path), settings)
        if not self._model:
            reason = f" ({messages[-1]})" if messages else ""
            raise ExportError(
                f"{path.name}: llama.cpp cannot read it{reason}. The export is refused. Export as merged."
            )
        self._vocabulary = llama_cpp.llama_model_get_vocab(self._model)

    def __enter__(self) -> LlamaFile:
        """Return the file."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Free the model."""
        if self._model:
            self._llama.llama_model_free(self._model)
            self._model = None

    def ids(self, text: str) -> list[int]:
        """Return the ids of a text, in which control tokens are real ones."""
        raw = text.encode()
        # More than there can be: one id per byte, and added spaces.
        ids = (self._llama.llama_token * (2 * len(raw) + 8))()
        count = self._llama.llama_tokenize(self._vocabulary, raw, len(raw), ids, len(ids), False, True)
        return list(ids[: max(0, count)])

    def logits(self, sequences: Sequence[Sequence[int]]) -> Iterator[torch.Tensor]:
        """Yield the logits at every token of each sequence [T, V], computed on the CPU.

        Raises:
            ExportError: If llama.cpp cannot compute them.
        """
        llama, length = self._llama, max(map(len, sequences))
        settings = llama.llama_context_default_params()
        settings.n_ctx = settings.n_batch = settings.n_ubatch = max(64, length)
        settings.n_threads = settings.n_threads_batch = torch.get_num_threads()
        with _kept_quiet(llama) as messages:
            context = llama.llama_init_from_model(self._model, settings)
            try:
                for ids in sequences:
                    if not context or not self._decode(context, ids):
                        reason = f" ({messages[-1]})" if messages else ""
                        raise ExportError(
                            f"gguf: llama.cpp cannot compute with the file{reason}. The export is refused. "
                            "Export as merged."
                        )
                    size = llama.llama_vocab_n_tokens(self._vocabulary)
                    values = np.ctypeslib.as_array(llama.llama_get_logits(context), shape=(len(ids) * size,))
                    yield torch.from_numpy(values.reshape(len(ids), size).copy())
            finally:
                if context:
                    llama.llama_free(context)

    def _decode(self, context: Any, ids: Sequence[int]) -> bool:
        llama = self._llama
        llama.llama_memory_clear(llama.llama_get_memory(context), True)
        batch = llama.llama_batch_init(len(ids), 0, 1)
        try:
            batch.n_tokens = len(ids)
            for at, token in enumerate(ids):
                batch.token[at], batch.pos[at], batch.logits[at] = token, at, 1
                batch.n_seq_id[at], batch.seq_id[at][0] = 1, 0
            return bool(llama.llama_decode(context, batch) == 0)
        finally:
            llama.llama_batch_free(batch)


def quantise(source: Path, target: Path, type_name: str) -> None:
    """Write a GGUF file with quantised weights, by llama.cpp's own quantiser.

    Args:
        source: A GGUF file in fp32, fp16 or bf16.
        target: The file to write.
        type_name: Name of the type, such as ``q4_k_m``.

    Raises:
        ExportError: If llama.cpp refuses.
        OSError: If the disk is full.
    """
    llama_cpp = _library()
    settings = llama_cpp.llama_model_quantize_default_params()
    settings.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{type_name.upper()}")
    settings.nthread = torch.get_num_threads()
    with _kept_quiet(llama_cpp) as messages:
        code = llama_cpp.llama_model_quantize(os.fsencode(source), os.fsencode(target), ctypes.byref(settings))
    if code == 0:
        return
    if shutil.disk_usage(target.parent).free < _NO_ROOM:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
    reason = f" ({messages[-1]})" if messages else ""
    raise ExportError(
        f"gguf: llama.cpp cannot write {type_name}{reason}. The export is refused. Choose another --dtype."
    )
