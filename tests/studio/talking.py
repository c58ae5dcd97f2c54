"""A workspace with a run that answers, and its base, which writes without end; both are tiny and made in seconds."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import mkdtemp

ANSWERS = (
    ("Say hi", "Hi</script><b>you</b>"),
    ("Time?", '<tool_call>\n{"name": "time", "arguments": {"zone": "UTC"}}\n</tool_call>'),
)
TOOLS = '{"name": "time", "parameters": {"type": "object", "properties": {"zone": {"type": "string"}}}}'


@cache
def talking_models():
    """Return a folder with ``tuned`` and ``base``."""
    import torch
    from tests.tiny_chat import memorise, tiny_llama, tiny_tokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.set_num_threads(1)
    root, tokenizer = Path(mkdtemp(prefix="instil-talking-")), tiny_tokenizer()
    for name, seed in (("tuned", 0), ("base", 1)):
        model = tiny_llama(seed=seed)
        model.config.max_position_embeddings = 4096
        if name == "tuned":
            memorise(model, tokenizer, ANSWERS)
        else:  # a random model repeats the last token, a line break, which is not streamed while nothing follows it
            letter, line_break = tokenizer.convert_tokens_to_ids(["a", "\u010a"])
            weights = model.get_input_embeddings().weight.data
            weights[letter] = 2 * weights[line_break]
        model.generation_config.eos_token_id = 258
        model.save_pretrained(root / name)
        tokenizer.save_pretrained(root / name)
    return root


def make_talking_run(workspace, path="runs/talker"):
    """Write a finished run, whose base lies in ``base``."""
    import shutil

    folder = workspace / path
    shutil.copytree(talking_models() / "tuned", folder / "model")
    if not (workspace / "base").exists():
        shutil.copytree(talking_models() / "base", workspace / "base")
    template = folder / "model" / "chat_template.jinja"
    template.write_text(template.read_text() + "{% if shout %}!{% endif %}")
    (folder / "recipe.yaml").write_text("model:\n  name: ./base\ndata:\n  dropped_text: accept\n")
    (folder / "environment.json").write_text("{}")
    (folder / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n')
    (folder / "results.json").write_text('{"steps": 1}')
    return folder
