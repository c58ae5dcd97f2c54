"""Compare an export with what transformers 4 makes of it, in an environment of its own.

Many servers and converters are built on transformers 4, which takes a default for every setting that it does not find
under its old name. So prompts, logits and greedy answers are compared there too.

Why: the other version is installed once, into a folder of the cache, and put before everything else on the path of a
process of its own. torch stays the one that is here; a second copy would cost gigabytes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from instil.errors import ExportError
from instil.exporting import read_with_4
from instil.exporting.parity import ANSWER_TOKENS, MERGE_BOUND, NUM_ANSWERS, by_own_forward, logits_on
from instil.files import atomic_folder, cache_root
from instil.generation.engine import Engine
from instil.generation.prompts import Prompt
from instil.generation.settings import SamplingSettings
from instil.template.message_dicts import to_template_messages

REQUIREMENT = "transformers==4.57.6"


def check_with_4(folder: Path, exported: Engine, prompts: Sequence[Prompt]) -> str:
    """Compare a written model folder in transformers 4 with the same folder in this process.

    Args:
        folder: The model folder.
        exported: The folder, loaded here.
        prompts: Prompts whose ids equal plain transformers' here.

    Returns:
        What was compared, for people.

    Raises:
        ExportError: If transformers 4 cannot be installed, cannot read the folder, or gives other ids, logits or
            answers.
    """
    packages = installed_4()
    with tempfile.TemporaryDirectory(prefix="instil-check-") as scratch:
        request = _request(folder, exported, list(prompts)[:NUM_ANSWERS], Path(scratch))
        result = _run(packages, request)
    if "differs" in result:
        raise ExportError(
            f"parity: transformers {result['transformers']} reads the export differently. {result['differs']}. "
            "The export is refused. Leave --check-with out to export for transformers 5 alone."
        )
    return (
        f"transformers {result['transformers']}: {result['answers']} prompts and greedy answers equal, logits changed "
        f"by at most {result['logit_change']:.2g} of the largest"
    )


def installed_4() -> Path:
    """Return the folder with transformers 4, which is installed on first use.

    Raises:
        ExportError: If it cannot be installed.
    """
    python = f"python{sys.version_info.major}.{sys.version_info.minor}"
    folder = cache_root() / "check-with-4" / f"{REQUIREMENT.replace('==', '-')}-{python}"
    if (folder / "transformers").is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(folder, replace=True) as aside:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(aside), REQUIREMENT]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            reason = (done.stderr.strip() or "pip failed").splitlines()[-1]
            raise ExportError(
                f"--check-with 4: {REQUIREMENT} could not be installed ({reason}). Expected a package index that pip "
                "reaches. Run it where there is one, or leave --check-with out."
            )
    return folder


def _request(folder: Path, exported: Engine, prompts: Sequence[Prompt], scratch: Path) -> Path:
    """Write what the other process compares with, and return the file."""
    assert exported.chat is not None
    chats = [prompt.conversation for prompt in prompts]
    ids = [exported.prompt(chat) for chat in chats]
    settings = SamplingSettings(max_new_tokens=ANSWER_TOKENS)
    engine = by_own_forward(exported)
    answers = [engine.answer([chat], settings)[0].generated.token_ids for chat in chats]
    logits = {str(number): value.contiguous() for number, value in enumerate(logits_on(exported.model, ids))}
    save_file(logits, scratch / "logits.safetensors")
    rows = [
        {
            "messages": to_template_messages(chat.messages, shape=exported.chat.template.shape, traced=False),
            "tools": [dict(tool) for tool in chat.tools],
            "variables": dict(chat.variables),
            "prompt_ids": list(prompt_ids),
            "answer_ids": list(answer_ids),
        }
        for chat, prompt_ids, answer_ids in zip(chats, ids, answers, strict=True)
    ]
    # Both versions add up in another order, as a merged model does beside its adapter.
    bound = MERGE_BOUND.get(next(exported.model.parameters()).dtype, MERGE_BOUND[torch.bfloat16])
    request = {
        "folder": str(folder.resolve()),
        "logits": str(scratch / "logits.safetensors"),
        "bound": bound,
        "prompts": rows,
    }
    path = scratch / "request.json"
    path.write_text(json.dumps(request), encoding="utf-8")
    return path


def _run(packages: Path, request: Path) -> dict[str, Any]:
    """Run the comparison with the packages of that folder before all others."""
    environment = os.environ | {"PYTHONPATH": str(packages), "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(read_with_4.__file__), str(request)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=request.parent)
    if done.returncode != 0:
        reason = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
        raise ExportError(
            f"--check-with 4: {REQUIREMENT} cannot read the export ({reason}). The export is refused. Leave "
            "--check-with out to export for transformers 5 alone."
        )
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result
