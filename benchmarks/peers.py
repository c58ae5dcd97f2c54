"""Builds an environment of its own for each peer that the benchmarks compare with, once, in a scratch folder.

Used by train_step.py, prepare.py, gpu.py: ``python = peer_python("trl")``. Environments lie under
``$INSTIL_PEERS`` (default: a folder ``instil-peers`` in the user's cache), so that every benchmark shares them.
Torch is installed first and pinned, so that the peer runs on the same build as instil does. Two benchmarks that start
together build one environment: the second waits for the first.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

PEERS: dict[str, tuple[str, ...]] = {
    "trl": ("trl==1.16.0", "transformers", "peft"),
    "llamafactory": ("llamafactory==0.9.5",),
    "tokenizers": (),
}
"""Peer to its requirements; `tokenizers` alone needs nothing but instil's own environment."""

TAKEN_OUT = {"llamafactory": ("torchvision", "torchaudio")}
"""What is taken out again: their published Linux builds need CUDA libraries, do not load beside a CPU build of torch, and serve
images and sound alone."""

TORCH = "torch==2.13.0"


def peers_folder() -> Path:
    """Give the folder that holds the peers' environments."""
    given = os.environ.get("INSTIL_PEERS")
    return Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "instil-peers"


def peer_python(peer: str) -> Path:
    """Give the Python of a peer's environment, building it if it is not there yet.

    Raises:
        SystemExit: If pip cannot install the peer; its own last lines are printed.
    """
    if not PEERS[peer]:
        return Path(sys.executable)
    folder = peers_folder() / peer
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{peer}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _built(peer, folder)


def _built(peer: str, folder: Path) -> Path:
    """Build a peer's environment, or find it whole."""
    requirements = PEERS[peer]
    python, finished = folder / "bin" / "python", folder / ".finished"
    if finished.exists() and finished.read_text() == "\n".join(requirements):
        return python
    print(f"building an environment for {peer} in {folder} …", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
    for wanted in ((TORCH,), (TORCH, *requirements)):
        command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{peer}: pip could not install {' '.join(wanted)}:\n{done.stderr[-2000:]}")
    cpu_build = [str(python), "-c", "import sys, torch; sys.exit(torch.version.cuda is not None)"]
    if peer in TAKEN_OUT and subprocess.run(cpu_build, check=False).returncode == 0:
        subprocess.run([str(python), "-m", "pip", "uninstall", "--quiet", "--yes", *TAKEN_OUT[peer]], check=True)
    finished.write_text("\n".join(requirements))
    return python
