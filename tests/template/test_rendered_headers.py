"""Claims about headers: each published syntax is known, and ordinary text holds none."""

from __future__ import annotations

import pytest

from instil.template.rendered_headers import first_syntax, holds_header, may_be_rendered, syntax_of

HEADERS = {
    "ChatML": "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
    "Phi-4": "<|im_start|>user<|im_sep|>Hi<|im_end|><|im_start|>assistant<|im_sep|>",
    "Llama 2 or Mistral": "<s>[INST] Hi [/INST] Hello</s>",
    "Llama 3": "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>",
    "Llama 4": "<|header_start|>user<|header_end|>\n\nHi<|eot|><|header_start|>assistant<|header_end|>",
    "Gemma": "<start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n",
    "Gemma 4": "<|turn>user\nHi<turn|>\n<|turn>model\n",
    "Phi-3, Zephyr or GLM": "<|user|>\nHi<|end|>\n<|assistant|>\n",
    "DeepSeek": "<｜User｜>Hi<｜Assistant｜>Hello",
    "Command R": "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>Hi<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
    "Granite": "<|start_of_role|>user<|end_of_role|>Hi<|start_of_role|>assistant<|end_of_role|>",
    "gpt-oss": "<|start|>user<|message|>Hi<|end|><|start|>assistant",
    "Kimi": "<|im_user|>user<|im_middle|>Hi<|im_end|><|im_assistant|>",
    "MiniMax": "]~b]user\nHi[e~[\n]~b]ai\n",
    "EXAONE": "[|user|]Hi\n[|assistant|]Hello",
    "Alpaca": "### Instruction:\nHi\n\n### Response:\n",
    "Guanaco": "### Human: Hi### Assistant: Hello",
    "Human and Assistant": "\n\nHuman: Hi\n\nAssistant: Hello",
    "Vicuna": "USER: Hi ASSISTANT: Hello</s>",
}


@pytest.mark.parametrize(("name", "text"), HEADERS.items(), ids=list(HEADERS))
def test_two_headers_of_a_syntax_are_recognised_and_one_is_not_enough(name, text):
    found = syntax_of(text)
    assert found is not None
    assert found.name == name
    assert may_be_rendered(text)
    assert holds_header(text)
    assert first_syntax("  " + text if name not in ("Human and Assistant", "Alpaca", "Vicuna") else text) is not None
    first = found.header.search(text)
    assert first is not None
    assert syntax_of(text[: first.end()]) is None


@pytest.mark.parametrize("text", ["How are you?", "a < b | c", "### Notes\n", "[INST", "User: hi", "", "#### 72"])
def test_ordinary_text_holds_no_header(text):
    assert not may_be_rendered(text)
    assert syntax_of(text) is None
