"""Preparation on a cluster, as the process sees it that was started for it.

`prepare` passes the blocks of the files that it hashes, then asks for all chunks to be encoded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from instil.errors import InstilError
from instil.preparation.chunks import Input, RowsRead
from instil.preparation.cluster.encode_on_ray import (
    FEWEST_ROWS,
    ClusterFailedError,
    digest_of,
    encode_on_ray,
    jobs_of,
)
from instil.preparation.cluster.pieces import Cutters, Piece
from instil.preparation.cluster.shards import Shards
from instil.preparation.encode_rows import EncodedChunk, Encoder, Work
from instil.ray_cluster import connected
from instil.units import counted


class OnCluster:
    """Encodes the rows of a recipe on a cluster, and says what the user should know about it."""

    def __init__(self, say: Callable[[str], None] | None) -> None:
        """Prepare to encode.

        Args:
            say: Prints a line for the user; None prints nothing.
        """
        self._say = say
        self._cutters = Cutters(())

    def watching(self, inputs: Sequence[Input]) -> Callable[[Path, bytes], None]:
        """Return what takes the blocks of the files while they are hashed."""
        self._cutters = Cutters(inputs)
        return self._cutters.watch

    @contextmanager
    def encoded(
        self,
        inputs: Sequence[Input],
        encoder: Encoder,
        work: Work,
        *,
        store: Path,
        workers: int,
        rows: RowsRead,
        take: Callable[[Sequence[EncodedChunk]], None],
    ) -> Iterator[None]:
        """Encode every row on the cluster, and keep the shards while the context is open.

        They are removed when it ends, also with an error in data or settings, because what is corrected has another
        key. If this process or the cluster stops, they stay, and the next preparation uses them.

        Args:
            inputs: The sources, with the rows that were drawn.
            encoder: The chat tokenizer.
            work: Settings of the tasks.
            store: The store's folder.
            workers: Processes of a cluster that is started here. 0 and 1 mean one for each core.
            rows: The bar.
            take: Called with the results, in the order of the chunks.

        Raises:
            InstilError: The first error in the order of the chunks.
        """
        pieces = [self._cutters.pieces_of(number, source) for number, source in enumerate(inputs)]
        shards = Shards(store, inputs=digest_of(pieces))
        try:
            # One process is the default of data.workers, and no reason to start a cluster of one.
            with connected(setting="data.cluster", processes=0 if workers == 1 else workers) as cluster:
                self._note(str(cluster))
                if cluster.ray.available_resources().get("CPU", 0) < 1:
                    self._note("every processor is taken by other work, so this waits for one")
                if shards.num_found:
                    self._note(f"{counted(shards.num_found, 'chunk')} were encoded before an interruption")
                has_said = self._note_pieces(inputs, pieces)
                num_rows = encode_on_ray(
                    jobs_of(inputs, pieces), encoder, work, cluster=cluster, shards=shards, rows=rows, take=take
                )
                if not has_said:
                    self._note_few(num_rows)
            yield
            shards.remove()
        except ClusterFailedError:
            raise
        except InstilError:
            shards.remove()
            raise
        finally:
            shards.close()

    def _note_pieces(self, inputs: Sequence[Input], pieces: Sequence[tuple[Piece, ...] | str]) -> bool:
        """Name the sources whose rows pass through this process; return whether the number of all rows is known."""
        for source, reason in zip(inputs, pieces, strict=True):
            if isinstance(reason, str):
                self._note(
                    f"{source.settings.path}: its rows pass through this process, because {reason}. The nodes "
                    "themselves read files with one JSON object a line, in UTF-8 and not compressed"
                )
        if any(isinstance(one, str) for one in pieces):
            return False
        self._note_few(sum(piece.num_rows for one in pieces if not isinstance(one, str) for piece in one))
        return True

    def _note_few(self, num_rows: int) -> None:
        if num_rows < FEWEST_ROWS:
            self._note(f"{counted(num_rows, 'row')}: below {FEWEST_ROWS:,}, one machine is faster (data.cluster: none)")

    def _note(self, text: str) -> None:
        if self._say is not None:
            self._say(f"{'cluster':<10} {text}")
