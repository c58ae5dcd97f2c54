"""Progress that libraries count with tqdm, shown as our bars: weights that transformers loads or writes, downloads.

Why: a tqdm of its own would be drawn into the region of the terminal that our bars use.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sized
from typing import Any

from instil.screen.bars import Bar, work


class LibraryBar:
    """What transformers gets instead of a tqdm: the same methods, drawn by `work`."""

    def __init__(self, what: str, iterable: Any, *, total: float | None, unit: str) -> None:
        self._iterable = iterable
        self._context = work(what, total=total, unit=unit)
        self._bar: Bar | None = None

    def __enter__(self) -> LibraryBar:
        self._open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Any]:
        try:
            for value in self._iterable:
                yield value
                self.update()
        finally:
            self.close()

    def update(self, amount: float | None = 1) -> None:
        """Count what was done since the last call."""
        self._open().advance(amount or 0)

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar = None
            self._context.__exit__(None, None, None)

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *_, **__: None  # what else tqdm has changes only how it looks

    def _open(self) -> Bar:
        if self._bar is None:
            self._bar = self._context.__enter__()
        return self._bar


def loading_bar(factory: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Return our bar for a tqdm of transformers (see ``transformers.utils.logging.set_tqdm_hook``).

    Example:
        >>> list(loading_bar(list, (["a", "b"],), {"desc": "Loading weights"}))
        ['a', 'b']
    """
    iterable = args[0] if args else options.get("iterable")
    total = options.get("total")
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    what = str(options.get("desc") or "working")
    return LibraryBar(
        what[:1].lower() + what[1:], iterable if iterable is not None else (), total=total, unit="tensors"
    )


def download_bars() -> type[Any]:
    """Return a tqdm class for the Hub's client. Its bytes are drawn by `work`; its count of files is not."""
    from tqdm.std import tqdm  # type: ignore[import-untyped, unused-ignore]

    class DownloadBar(tqdm):  # type: ignore[misc, type-arg, unused-ignore]
        """A tqdm that prints nothing itself."""

        def __init__(self, *args: Any, **options: Any) -> None:
            self._bar: LibraryBar | None = None
            super().__init__(*args, **{**options, "file": io.StringIO(), "disable": False})

        def display(self, msg: str | None = None, pos: int | None = None) -> None:
            if self.unit == "B" and self.total:
                if self._bar is None:
                    self._bar = LibraryBar(
                        str(self.desc or "downloading").strip(": ").lower(), (), total=1, unit="bytes"
                    )
                bar = self._bar._open()
                bar.total, bar.done = float(self.total), float(self.n)

        def close(self) -> None:
            super().close()
            if self._bar is not None:
                self._bar.close()

    return DownloadBar
