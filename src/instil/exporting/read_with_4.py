"""Load a model folder with the transformers that is on the path, and compare it with what a file says.

`check_with_4` runs this file as a script with transformers 4 on the path; it must not import instil. It reads a JSON
file (``folder``, ``logits``, ``bound``, ``prompts``) and prints one JSON object: what was compared, or ``differs``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def compare(request: dict[str, Any]) -> dict[str, Any]:
    """Return what was compared, or the first difference.

    Args:
        request: ``folder``; ``logits``, a safetensors file with fp32 logits [T, V] by prompt number; ``bound`` on their
            change as a share of the largest one; ``prompts``, each with ``messages``, ``tools``, ``variables``,
            ``prompt_ids`` and ``answer_ids``, a greedy answer without its stop token.
    """
    import torch
    import transformers
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    transformers.logging.set_verbosity_error()
    result: dict[str, Any] = {"transformers": transformers.__version__, "logit_change": 0.0, "answers": 0}
    tokenizer: Any = AutoTokenizer.from_pretrained(request["folder"], local_files_only=True)
    model: Any = AutoModelForCausalLM.from_pretrained(request["folder"], local_files_only=True, dtype="auto")
    model.eval()
    expected = load_file(request["logits"])
    for number, prompt in enumerate(request["prompts"]):
        prompt_ids = tokenizer.apply_chat_template(
            prompt["messages"],
            tools=prompt["tools"] or None,
            add_generation_prompt=True,
            return_dict=False,
            **prompt["variables"],
        )
        if list(prompt_ids) != prompt["prompt_ids"]:
            return result | {"differs": f"prompt {number + 1}: its ids are {list(prompt_ids)[:40]} …"}
        row = torch.tensor([prompt["prompt_ids"]])
        with torch.no_grad():
            logits = model(input_ids=row, use_cache=False).logits[0].float()
            written = model.generate(row, max_new_tokens=max(1, len(prompt["answer_ids"])), do_sample=False)
        reference = expected[str(number)]
        change = ((logits - reference).abs().max() / reference.abs().max()).item()
        result["logit_change"] = max(result["logit_change"], change)
        if not change <= request["bound"]:
            return result | {"differs": f"prompt {number + 1}: a logit changed by {change:.2g} of the largest"}
        answer = written[0, row.shape[1] :].tolist()[: len(prompt["answer_ids"])]
        if answer != prompt["answer_ids"]:
            text = tokenizer.decode(answer)
            return result | {"differs": f"prompt {number + 1}: the greedy answer is {text[:80]!r}"}
        result["answers"] += 1
    return result


if __name__ == "__main__":
    print(json.dumps(compare(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))))
