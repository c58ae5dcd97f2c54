"""Silences progress bars, notices and warnings of transformers and peft; instil reports what matters in them itself."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from instil.screen.library_bars import loading_bar


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence transformers' notices about weights, and draw its progress as ours; instil reports what went wrong."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    hook = logging.set_tqdm_hook(loading_bar)
    try:
        yield
    finally:
        logging.set_tqdm_hook(hook)
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


@contextmanager
def quiet_peft() -> Iterator[None]:
    """Silence three kinds of peft's warnings.

    - Advice on tied embeddings, which instil follows.
    - A deprecation warning about a name of transformers that peft itself uses.
    - A note on patterns for stacked experts, which peft made itself and which match nothing.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module="peft")
        warnings.filterwarnings("ignore", message=".*_pattern keys did not match any", category=RuntimeWarning)
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        yield
