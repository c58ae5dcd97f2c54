"""What a node of the cluster does for one chunk: read it, encode it, write its shard.

Only counts go back. Ray imports this module on every node.
"""

from __future__ import annotations

import os
import pickle
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from instil import __version__
from instil.errors import DataError
from instil.preparation.chunks import Chunk
from instil.preparation.cluster.pieces import Piece, read_piece
from instil.preparation.cluster.shards import write_shard
from instil.preparation.encode_rows import encode_chunk
from instil.preparation.workers import ONE_THREAD

Job: TypeAlias = "Piece | Chunk"
"""One chunk: where its rows are, or the rows themselves."""
_state: dict[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Settings:
    """What every task of one preparation needs.

    Attributes:
        key: Differs for each preparation, so that a worker process keeps the encoder for its next task.
        version: Version of instil where the preparation was started.
    """

    key: str
    version: str = __version__


def encode_to_shard(job: Job, path: str, settings: Settings, pickled: bytes) -> tuple[int, int]:
    """Encode one chunk into its shard, and return the numbers of its rows and examples.

    Args:
        job: The chunk.
        path: File of the shard, absolute.
        settings: Settings of the preparation.
        pickled: Encoder and `Work`, pickled by the process that started the preparation.

    Raises:
        InstilError: With ``on_bad_row: stop``, the first row that cannot be used; or a file is not as expected.
    """
    if settings.version != __version__:
        raise DataError(
            f"the machine {platform.node()} has instil {__version__}, not {settings.version}. Expected one version on "
            "every node. Install it there."
        )
    if _state.get("key") != settings.key:
        os.environ.update(ONE_THREAD)  # before the tokenizers library starts its threads
        _state["encoder"], _state["work"] = pickle.loads(pickled)
        _state["key"] = settings.key
    chunk = read_piece(job) if isinstance(job, Piece) else job
    encoded = encode_chunk(chunk, _state["encoder"], _state["work"])
    try:
        write_shard(Path(path), encoded)
    except OSError as error:
        raise DataError(
            f"{Path(path).parent}: cannot be written to on the machine {platform.node()} ({error.strerror or error}). "
            "Expected one folder for all nodes. Set data.store to a folder on a disk that all nodes share."
        ) from None
    return len(chunk.rows), encoded.batch.num_rows
