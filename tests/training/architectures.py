"""Every architecture that was tried: tuned through the command line, loaded back by plain transformers and compared.

``python -m tests.training.architectures [NAME ...]`` prints what becomes of each, which is what docs/how-it-works/architectures.md says; `test_architectures.py`
runs those that people tune most.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file
from tests.model.tiny import ARCHITECTURES, MIXING, MIXTURE, SMALL, tiny_model
from tests.tiny_chat import tiny_tokenizer
from tests.training.command_line import exit_code, make_rows, write_recipe
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, AutoTokenizer

from instil.model.attention.layout import positions_of
from instil.model.loading import load_model
from instil.model.loss.token_loss import TokenLoss, targets_of
from instil.model.parts import beyond_text, take_apart
from instil.recipe import ModelSettings

Kind = Literal["full", "lora"]
CONVERSATION = [
    {"role": "user", "content": "7+1"},
    {"role": "assistant", "content": "8"},
    {"role": "user", "content": "again, please"},
    {"role": "assistant", "content": "8."},
]
QUESTIONS = ("7+1", "12+1, and then")
NEW_TOKENS = 6
OLD_NAMES = {
    "torch_dtype", "rope_theta", "rope_scaling", "rope_local_base_freq", "global_rope_theta", "local_rope_theta",
    "partial_rotary_factor", "rotary_emb_base", "rotary_pct",
}  # fmt: skip
CHANGED = {"vocab_size", "eos_token_id", "pad_token_id", "transformers_version"}
"""What a tuned model's config.json may say otherwise than its base's."""
NO_GRADIENT = re.compile(r"correction_bias$|expert_bias$|balancing_biases$")
"""Biases that mixtures balance their experts with in pretraining, outside the gradient."""

CONTROL_TOKEN = re.compile(r"<\|\w+\|>")

WINDOWS: dict[str, Any] = {"sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]}
EXPERTS: dict[str, Any] = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
LOCAL: dict[str, Any] = {"num_local_experts": 4, "num_experts_per_tok": 2}
LATENT: dict[str, Any] = {"kv_lora_rank": 8, "q_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8, "num_key_value_heads": 4}  # fmt: skip
ROUTED: dict[str, Any] = {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "n_group": 1, "topk_group": 1, "n_shared_experts": 1, "first_k_dense_replace": 1}  # fmt: skip
LINEAR: dict[str, Any] = MIXING["qwen3_5_text"]
OLD = {key: value for key, value in SMALL.items() if key not in ("num_key_value_heads", "head_dim")}
GPT = ARCHITECTURES["gpt2"]
SPARSE = SMALL | ROUTED | LATENT | {"index_topk": 4, "index_n_heads": 2, "index_head_dim": 16}
SPACES: dict[str, Any] = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_n_groups": 1}
MAMBA = MIXING["mamba"]

MORE: dict[str, dict[str, Any]] = {
    "apertus": SMALL,
    "arcee": SMALL,
    "axk1": SMALL | LATENT | ROUTED,
    "bailing_hybrid": SMALL | LATENT | EXPERTS | {"layer_types": ["linear_attention", "full_attention"], "n_group": 1, "topk_group": 1},
    "bamba": SMALL | SPACES | {"attn_layer_indices": [1]},
    "beam": SMALL,
    "biogpt": OLD | {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "layerdrop": 0.0, "activation_dropout": 0.0},
    "bitnet": SMALL,
    "codegen": GPT | {"rotary_dim": 4},
    "cohere2_moe": SMALL | EXPERTS | {"sliding_window": 4},
    "cwm": SMALL | WINDOWS,
    "dbrx": {"vocab_size": 97, "d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 128, "attn_config": {"kv_n_heads": 2, "clip_qkv": 8, "rope_theta": 10000.0}, "ffn_config": {"ffn_hidden_size": 48, "moe_num_experts": 4, "moe_top_k": 2, "moe_jitter_eps": 0, "moe_loss_weight": 0.01}},
    "deepseek_v2": SMALL | LATENT | ROUTED,
    "deepseek_v32": SPARSE,
    "deepseek_v4": SMALL | MIXTURE,
    "diffllama": SMALL,
    "doge": SMALL,
    "dots1": SMALL | ROUTED | {"num_key_value_heads": 4},
    "ernie4_5": SMALL,
    "ernie4_5_moe": SMALL | {"moe_num_experts": 4, "moe_k": 2, "moe_intermediate_size": 16, "moe_num_shared_experts": 1},
    "exaone4": SMALL | WINDOWS,
    "exaone_moe": SMALL | EXPERTS,
    "falcon": {"vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "multi_query": True},
    "falcon_h1": SMALL | SPACES | {"mamba_d_ssm": 64, "lm_head_multiplier": 0.25},
    "falcon_mamba": MAMBA,
    "flex_olmo": SMALL | EXPERTS,
    "flint": SMALL,
    "gemma": SMALL,
    "gemma4_text": SMALL | WINDOWS | {"vocab_size_per_layer_input": 97, "hidden_size_per_layer_input": 8, "num_kv_shared_layers": 0, "global_head_dim": 8},
    "glm": SMALL,
    "glm4": SMALL,
    "glm4_moe": SMALL | ROUTED,
    "glm4_moe_lite": SMALL | LATENT | ROUTED,
    "glm_moe_dsa": SPARSE,
    "gpt_bigcode": GPT,
    "gpt_neo": {"vocab_size": 97, "hidden_size": 32, "num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]], "window_size": 4, "max_position_embeddings": 512},
    "gpt_neox": OLD,
    "gpt_neox_japanese": OLD,
    "gptj": GPT | {"rotary_dim": 4},
    "granite_swa": SMALL | {"sliding_window": 4, "logits_scaling": 4.0},
    "granitemoe": SMALL | LOCAL | {"logits_scaling": 4.0},
    "granitemoe_swa": SMALL | LOCAL | {"logits_scaling": 4.0},
    "granitemoehybrid": SMALL | LOCAL | SPACES | {"layer_types": ["mamba", "attention"], "shared_intermediate_size": 16, "mamba_expand": 2, "logits_scaling": 4.0},
    "granitemoeshared": SMALL | LOCAL | {"shared_intermediate_size": 16, "logits_scaling": 4.0},
    "helium": SMALL,
    "hrm_text": SMALL,
    "hunyuan_v1_dense": SMALL,
    "hunyuan_v1_moe": SMALL | {"num_experts": 4, "moe_topk": 2, "moe_intermediate_size": 16},
    "hy_v3": SMALL | EXPERTS,
    "hyperclovax": SMALL | {"logits_scaling": 0.25},
    "internlm3": SMALL,
    "iquestcoder": SMALL,
    "jais2": SMALL,
    "jamba": SMALL | {"num_experts": 2, "num_experts_per_tok": 1, "attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1, "mamba_d_state": 8, "use_mamba_kernels": False},
    "jetmoe": OLD | LOCAL | {"num_key_value_heads": 2, "kv_channels": 8},
    "kimi_linear": SMALL | LATENT | EXPERTS | {"layer_types": ["linear_attention", "full_attention"]},
    "laguna": SMALL | EXPERTS,
    "lfm2_moe": SMALL | EXPERTS | {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "lfm3": SMALL,
    "longcat_flash": OLD | LATENT | {"n_routed_experts": 4, "moe_topk": 2, "expert_ffn_hidden_size": 16, "ffn_hidden_size": 48, "zero_expert_num": 2, "num_layers": 2, "head_dim": 8},
    "mamba2": {"vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8, "num_heads": 4, "head_dim": 16, "n_groups": 1},
    "mellum": SMALL,
    "mimo_v2_flash": SMALL | ROUTED,
    "minicpm3": SMALL | LATENT | {"dim_model_base": 16},
    "minimax": SMALL | LOCAL | {"layer_types": ["linear_attention", "full_attention"]},
    "minimax_m2": SMALL | LOCAL,
    "ministral": SMALL | WINDOWS,
    "ministral3": SMALL,
    "modernbert-decoder": SMALL,
    "mpt": {"vocab_size": 97, "d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 512},
    "nanochat": SMALL,
    "nemotron": SMALL,
    "nemotron_h": SMALL | ROUTED | {"layers_block_type": ["mamba", "attention"], "mamba_num_heads": 4, "mamba_head_dim": 16, "ssm_state_size": 8, "n_groups": 1},
    "olmo": SMALL,
    "olmo3": SMALL | WINDOWS,
    "olmo_hybrid": LINEAR,
    "olmoe": SMALL | EXPERTS,
    "opt": {"vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 48, "word_embed_proj_dim": 32, "max_position_embeddings": 128, "dropout": 0.0},
    "persimmon": SMALL,
    "phi": SMALL,
    "phimoe": SMALL | LOCAL,
    "qwen2_moe": SMALL | EXPERTS | {"shared_expert_intermediate_size": 16},
    "qwen3_5_moe_text": LINEAR | EXPERTS | {"shared_expert_intermediate_size": 16},
    "qwen3_next": LINEAR | EXPERTS | {"shared_expert_intermediate_size": 16},
    "recurrent_gemma": SMALL | {"lru_width": 32, "block_types": ["recurrent", "attention"]},
    "rwkv": {"vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 2, "attention_hidden_size": 32, "intermediate_size": 48},
    "seed_oss": SMALL,
    "solar_open": SMALL | ROUTED,
    "stablelm": SMALL,
    "starcoder2": SMALL | {"sliding_window": 4},
    "vaultgemma": SMALL | WINDOWS | {"query_pre_attn_scalar": 8},
    "xglm": {"vocab_size": 97, "d_model": 32, "num_layers": 2, "attention_heads": 4, "ffn_dim": 48, "max_position_embeddings": 512, "dropout": 0.0},
    "xlstm": {"vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 2, "num_heads": 4},
    "youtu": SMALL | LATENT | ROUTED,
    "zaya": SMALL | {"num_experts": 4, "num_experts_per_tok": 1},
}  # fmt: skip
EVERY = ARCHITECTURES | MIXING | MORE

TEXT: dict[str, Any] = SMALL | {"vocab_size": 259, "bos_token_id": 256, "eos_token_id": 258, "pad_token_id": 256}
EYE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
QWEN_EYE: dict[str, Any] = {
    "depth": 1,
    "hidden_size": 32,
    "num_heads": 2,
    "intermediate_size": 32,
    "out_hidden_size": 32,
}
SECTIONS: dict[str, Any] = {
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
}
SEEN = {"image_token_id": 250, "video_token_id": 251, "vision_start_token_id": 252, "vision_end_token_id": 253}

IMAGES: dict[str, dict[str, Any]] = {
    "gemma3": {"text_config": ARCHITECTURES["gemma3_text"] | TEXT, "vision_config": EYE, "mm_tokens_per_image": 4, "image_token_index": 250, "boi_token_index": 251, "eoi_token_index": 252},
    "gemma4": {"text_config": MORE["gemma4_text"] | TEXT | {"vocab_size_per_layer_input": 259}, "vision_config": EYE},
    "idefics3": {"text_config": TEXT | {"model_type": "llama"}, "vision_config": EYE, "image_token_id": 250},
    "llama4": {"text_config": ARCHITECTURES["llama4_text"] | TEXT, "vision_config": EYE | {"vision_output_dim": 32, "projector_input_dim": 32, "projector_output_dim": 32, "pixel_shuffle_ratio": 0.5}, "image_token_index": 250, "boi_token_index": 251, "eoi_token_index": 252},
    "llava": {"text_config": TEXT | {"model_type": "llama"}, "vision_config": EYE | {"model_type": "clip_vision_model"}, "image_token_index": 250},
    "mistral3": {"text_config": TEXT | {"model_type": "mistral"}, "vision_config": EYE | {"model_type": "pixtral", "head_dim": 16}, "image_token_index": 250},
    "qwen2_vl": {"text_config": TEXT | SECTIONS, "vision_config": {"depth": 1, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 1}} | SEEN,
    "qwen2_5_vl": {"text_config": TEXT | SECTIONS, "vision_config": QWEN_EYE | {"fullatt_block_indexes": [0]}} | SEEN,
    "qwen3_5": {"text_config": LINEAR | TEXT | {"layer_types": LINEAR["layer_types"]}, "vision_config": QWEN_EYE | {"num_position_embeddings": 16}} | SEEN,
    "qwen3_5_moe": {"text_config": LINEAR | TEXT | EXPERTS | {"shared_expert_intermediate_size": 16}, "vision_config": QWEN_EYE | {"num_position_embeddings": 16}} | SEEN,
    "qwen3_vl": {"text_config": TEXT | SECTIONS, "vision_config": QWEN_EYE | {"deepstack_visual_indexes": [0]}} | SEEN,
    "smolvlm": {"text_config": TEXT | {"model_type": "llama"}, "vision_config": EYE, "image_token_id": 250},
}  # fmt: skip
"""Models that read images besides, tuned on text."""


@dataclass(frozen=True)
class Tuned:
    """A tiny model that the command line has tuned.

    Attributes:
        base: Folder that it was tuned from.
        run: Its run folder.
        code: Exit code of ``instil train``.
        said: What it printed, errors last.
    """

    base: Path
    run: Path
    code: int
    said: str

    @property
    def one_by_one(self) -> bool:
        """Whether each forward pass held one example."""
        return "each forward pass holds one example" in self.said


def make_base(name: str, folder: Path, *, template: bool) -> Path:
    """Write a tiny random model with the tests' tokenizer, with a chat template and its tokens or without both."""
    tokenizer = tiny_tokenizer(template=template)
    tokenizer.save_pretrained(folder)
    if name in IMAGES:
        torch.manual_seed(0)
        AutoModelForImageTextToText.from_config(AutoConfig.for_model(name, **IMAGES[name])).save_pretrained(folder)
        (folder / "preprocessor_config.json").write_text("{}")
        return folder
    sizes = {"vocab_size": len(tokenizer), "bos_token_id": 256, "eos_token_id": 258, "pad_token_id": 256}
    if "vocab_size_per_layer_input" in EVERY[name]:
        sizes["vocab_size_per_layer_input"] = len(tokenizer)
    tiny_model(name, attention="eager", settings=EVERY[name], **sizes).save_pretrained(folder)
    return folder


def tune(name: str, kind: Kind, folder: Path, *, rows: Path) -> Tuned:
    """Train two steps through the command line: full on a model that has its chat template, LoRA on one that gets its chat tokens."""
    base = make_base(name, folder / "base", template=kind == "full")
    change: dict[str, Any] = {
        "training": {"max_steps": 2, "batch_size": 4},
        "evaluate": {"every": 2, "max_new_tokens": 2, "samples": ["1+1"]},
        "optimizer": {"lr": 1e-2},
        "adapter": {"kind": "none"} if kind == "full" else {"kind": "lora", "rank": 2},
    }
    recipe = write_recipe(folder, change, base=base, rows=rows)
    said, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(errors):
        code = exit_code("train", str(recipe))
    return Tuned(base, folder / "run", code, said.getvalue() + errors.getvalue())


def check(tuned: Tuned, kind: Kind) -> None:
    """Compare a tuned model with what plain transformers makes of its folder.

    Raises:
        AssertionError: If weights, config, logits, loss or answers differ, or something did not train.
    """
    folder = tuned.run / "model"
    reads_images = (folder / "preprocessor_config.json").exists()
    theirs, report = (AutoModelForImageTextToText if reads_images else AutoModelForCausalLM).from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    assert not any(report.values()), report
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer.apply_chat_template(CONVERSATION, return_dict=False)
    assert_same_numbers(theirs.eval(), folder, ids)
    assert_same_fields(tuned.base, folder)
    if kind == "full":
        assert_all_moved(theirs, tuned.base)
    else:
        saved = load_file(tuned.run / "adapter" / "adapter_model.safetensors")
        idle = [key for key, value in saved.items() if "lora_B" in key and not value.any()]
        assert saved
        assert not idle, idle
    assert (tuned.run / "samples.jsonl").read_text().strip()
    assert_same_answers(theirs, tokenizer, tuned)


def assert_same_numbers(theirs: Any, folder: Path, ids: list[int]) -> None:
    """Hold our loaded model's logits and loss against transformers', in fp32 to 1e-5."""
    row = torch.tensor([ids])
    with torch.no_grad():
        expected = theirs(input_ids=row, labels=row, use_cache=False)
    settings = ModelSettings(name=str(folder))
    ours = load_model(settings, precision="fp32").eval()
    parts, lengths = take_apart(ours), [len(ids)]
    states = {}
    parts.decoder.register_forward_hook(lambda *given: states.update(last=given[-1].last_hidden_state[0]))
    weights = torch.ones(len(ids))
    targets, shifted = targets_of(row[0], weights, lengths)
    with torch.no_grad():
        total = TokenLoss(ours, router_coefficient=0.0)(row[0], positions_of(lengths), lengths, targets, shifted)
        logits = parts.adjust(parts.head(parts.to_head(states["last"])))
        answering = load_model(settings, precision="fp32", purpose="generation").eval()
        served = answering(input_ids=row, use_cache=False).logits
    assert (logits - expected.logits[0]).abs().max() <= 1e-5
    assert (served - expected.logits).abs().max() <= 1e-5
    assert abs(float(total) / (len(ids) - 1) - float(expected.loss)) <= 1e-5


def assert_same_fields(base: Path, folder: Path) -> None:
    """Hold names of weights, config and generation_config against the base's."""
    before, after = (_fields(json.loads((place / "config.json").read_text())) for place in (base, folder))
    after = _without_old_names(after, before)
    assert {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)} <= CHANGED
    assert _weights(base).keys() == _weights(folder).keys()
    assert json.loads((folder / "generation_config.json").read_text())["eos_token_id"] is not None
    assert (folder / "chat_template.jinja").exists()


def _without_old_names(after: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """Leave out what is added for transformers 4; it repeats what is there under its new name."""
    return {
        key: _without_old_names(value, before.get(key) or {}) if key.endswith("_config") and value else value
        for key, value in after.items()
        if key in before or key not in OLD_NAMES
    }


def assert_all_moved(model: Any, base: Path) -> None:
    """Check that every parameter has moved but those that text does not reach, by the names in the folder."""
    before, after = _weights(base), model.state_dict()
    unread = tuple(f"{part}." for part in beyond_text(model))
    for name, value in model.named_parameters():
        if name in before and value.requires_grad and not NO_GRADIENT.search(name):
            assert torch.equal(before[name], after[name]) == name.startswith(unread), name


def assert_same_answers(theirs: Any, tokenizer: Any, tuned: Tuned) -> None:
    """Hold what ``instil generate`` writes against transformers' most probable tokens, each found without a cache."""
    asked, out = tuned.run / "asked.jsonl", tuned.run / "answers.jsonl"
    rows = [{"messages": [{"role": "user", "content": question}]} for question in QUESTIONS]
    asked.write_text("\n".join(map(json.dumps, rows)) + "\n")
    words = ("--max-new-tokens", str(NEW_TOKENS), "--device", "cpu", "--precision", "fp32")
    with contextlib.redirect_stderr(io.StringIO()):
        assert exit_code("generate", str(tuned.run), "--prompts", str(asked), "--out", str(out), *words) == 0
    answers = [json.loads(line)["prediction"] for line in out.read_text().splitlines()]
    expected = []
    for row in rows:
        prompt = tokenizer.apply_chat_template(row["messages"], add_generation_prompt=True, return_dict=False)
        ids = list(prompt)
        while len(ids) < len(prompt) + NEW_TOKENS:
            with torch.no_grad():
                ids.append(int(theirs(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
            if ids[-1] == tokenizer.eos_token_id:
                ids.pop()
                break
        expected.append(tokenizer.decode(ids[len(prompt) :]))
    assert list(map(_plain, answers)) == list(map(_plain, expected))


def _fields(config: dict[str, Any]) -> dict[str, Any]:
    """Lay the fields of the text model beside the others; the parts' types, which need not be named, left out."""
    eye = {key: value for key, value in config.get("vision_config", {}).items() if key != "dtype"}
    flat: dict[str, Any] = config | config.get("text_config", {}) | {"text_config": None, "vision_config": eye}
    return flat | {"dtype": config["dtype"]}


def _plain(text: str) -> str:
    return CONTROL_TOKEN.sub("", text).strip()


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return {name: value for path in sorted(folder.glob("*.safetensors")) for name, value in load_file(path).items()}


def main(*names: str) -> None:
    """Try architectures one after another and print a line for each."""
    torch.set_num_threads(1)
    root = Path(tempfile.mkdtemp())
    rows = make_rows(root / "rows.jsonl", count=12)
    for name in names or EVERY | IMAGES:
        for kind in ("full", "lora"):
            try:
                tuned = tune(name, kind, root / f"{name}-{kind}", rows=rows)
                if tuned.code == 0:
                    check(tuned, kind)
                found = (
                    "one by one"
                    if tuned.one_by_one
                    else "flat"
                    if tuned.code == 0
                    else tuned.said[tuned.said.index("error: ") :]
                )
            except AssertionError as error:
                found = f"WRONG {str(error)[:300]}"
            except Exception as error:
                found = f"TRACEBACK {type(error).__name__}: {error}"
            print(name, kind, *found.split(), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
