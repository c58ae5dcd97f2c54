"""Build a Python environment for each peer of the benchmarks, once: ``python = peer_python("trl")``.

`train_step.py` and `prepare.py` share the environments under ``$INSTIL_PEERS`` (default: the folder ``instil-peers`` in
the user's cache). Torch is pinned and installed first, so that a peer runs on the same build as instil. If two
benchmarks start together, one builds the environment and the other waits for it.
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
"""Peer → its requirements; `tokenizers` needs only instil's own environment."""

REMOVED = {"llamafactory": ("torchvision", "torchaudio")}
"""Peer → packages to uninstall again. They serve images and sound only, and their published Linux builds need CUDA
libraries, so they do not load beside a CPU build of torch."""

TORCH = "torch==2.13.0"


def peers_folder() -> Path:
    """Return the folder of the peers' environments."""
    folder = os.environ.get("INSTIL_PEERS")
    return Path(folder) if folder else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "instil-peers"


def peer_python(peer: str) -> Path:
    """Return the Python of a peer's environment; build the environment if it is missing.

    Raises:
        SystemExit: If pip cannot install the peer; with the last lines of its output.
    """
    if not PEERS[peer]:
        return Path(sys.executable)
    folder = peers_folder() / peer
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{peer}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _build(peer, folder)


def _build(peer: str, folder: Path) -> Path:
    """Return the Python of an environment that is complete, after building it where necessary."""
    requirements = PEERS[peer]
    python, finished = folder / "bin" / "python", folder / ".finished"
    if finished.exists() and finished.read_text() == "\n".join(requirements):
        return python
    print(f"building an environment for {peer} in {folder} …", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
    for packages in ((TORCH,), (TORCH, *requirements)):
        command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{peer}: pip could not install {' '.join(packages)}:\n{done.stderr[-2000:]}")
    cpu_build = [str(python), "-c", "import sys, torch; sys.exit(torch.version.cuda is not None)"]
    if peer in REMOVED and subprocess.run(cpu_build, check=False).returncode == 0:
        subprocess.run([str(python), "-m", "pip", "uninstall", "--quiet", "--yes", *REMOVED[peer]], check=True)
    finished.write_text("\n".join(requirements))
    return python
