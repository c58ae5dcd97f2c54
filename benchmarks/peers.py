"""Build a Python environment for each peer of the benchmarks, once.

    python benchmarks/peers.py [trl] [llamafactory] [llama.cpp]

Benchmarks that need a peer build its environment themselves, on first use, with pip. `train_step.py`, `prepare.py`,
`gpu.py` and `decoding.py` share the environments under ``$INSTIL_PEERS`` (default: the folder ``instil-peers`` in the
user's cache). Torch is pinned and installed first, so that a peer runs on the same build as instil. llama.cpp needs no
torch; pip compiles it for this machine, which takes a C++ compiler and some ten minutes. If two benchmarks start
together, one builds the environment and the other waits for it.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import subprocess
import sys
from pathlib import Path

PEERS: dict[str, tuple[str, ...]] = {
    "trl": ("trl==1.16.0", "transformers", "peft"),
    "llamafactory": ("llamafactory==0.9.5",),
    "llama.cpp": ("llama-cpp-python==0.3.36",),
    "tokenizers": (),
}
"""Peer → its requirements; `tokenizers` needs only instil's own environment."""

REMOVED = {"llamafactory": ("torchvision", "torchaudio")}
"""Peer → packages to uninstall again. They serve images and sound only, and their published Linux builds need CUDA
libraries, so they do not load beside a CPU build of torch."""

TORCH = "torch==2.13.0"
WITHOUT_TORCH = ("llama.cpp",)


def peers_folder() -> Path:
    """Return the folder of the peers' environments."""
    folder = os.environ.get("INSTIL_PEERS")
    return Path(folder) if folder else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "instil-peers"


def peer_python(peer: str) -> Path:
    """Return the Python of a peer's environment; build the environment if it is missing.

    Raises:
        SystemExit: If it cannot be built, with one line that says why and what to do.
    """
    if not PEERS[peer]:
        return Path(sys.executable)
    folder = peers_folder() / peer
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _missing(peer, f"{folder.parent} cannot be made ({error.strerror})") from None
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
    made = subprocess.run(
        [sys.executable, "-m", "venv", "--clear", str(folder)], capture_output=True, text=True, check=False
    )
    if made.returncode:
        raise _missing(peer, f"python -m venv failed ({_reason_in(made.stdout + made.stderr)})")
    for packages in (requirements,) if peer in WITHOUT_TORCH else ((TORCH,), (TORCH, *requirements)):
        command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise _missing(peer, f"pip could not install {' '.join(packages)} ({_reason_in(done.stderr)})")
    cpu_build = [str(python), "-c", "import sys, torch; sys.exit(torch.version.cuda is not None)"]
    if peer in REMOVED and subprocess.run(cpu_build, check=False).returncode == 0:
        subprocess.run([str(python), "-m", "pip", "uninstall", "--quiet", "--yes", *REMOVED[peer]], check=True)
    finished.write_text("\n".join(requirements))
    return python


def _missing(peer: str, reason: str) -> SystemExit:
    """Return what ends a benchmark whose peer has no environment."""
    return SystemExit(
        f"{peer}: not installed, and {reason}. Expected an environment in {peers_folder() / peer}. With a package index, "
        f"run: python benchmarks/peers.py {peer}. Or leave the peer out."
    )


def _reason_in(text: str) -> str:
    """Return the line of a program's output that says why it failed: its first error, else its last line."""
    lines = [
        line.strip() for line in text.splitlines() if line.strip() and not line.startswith(("[notice]", "WARNING"))
    ]
    errors = [line for line in lines if line.startswith("ERROR:")]
    return (errors or lines[-1:] or ["no message"])[0].removeprefix("ERROR: ")


_BUILT = [peer for peer, requirements in PEERS.items() if requirements]


def _built(name: str) -> str:
    if name not in _BUILT:
        raise argparse.ArgumentTypeError(f"found {name}. Expected {' or '.join(_BUILT)}.")
    return name


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    # Not by `choices`: argparse of Python 3.11 compares the list without a name with them and refuses it.
    parser.add_argument("peers", nargs="*", metavar="PEER", type=_built, help=", ".join(_BUILT))
    return parser


def main() -> None:
    """Build the environments of the named peers, of all without a name."""
    for peer in build_parser().parse_args().peers or _BUILT:
        print(f"{peer}: {peer_python(peer)}")


if __name__ == "__main__":
    main()
