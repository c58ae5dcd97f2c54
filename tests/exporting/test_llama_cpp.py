"""A GGUF file in llama.cpp itself, where its Python package is installed."""

from __future__ import annotations

import pytest
from tests.corpus import corpus_path, needs_corpus
from tests.tiny_chat import FACTS, folders

from instil.conversation import Conversation, Message
from instil.exporting.export import export
from instil.generation.engine import Engine


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_llama_cpp_reads_the_same_ids_and_gives_the_same_answers(tmp_path):
    llama_cpp = pytest.importorskip("llama_cpp")
    done = export(folders()["run"], tmp_path / "out", target="gguf", dtype="fp32")
    engine = Engine.load(folders()["run"])
    model = llama_cpp.Llama(str(done.folder / "model.gguf"), n_ctx=256, logits_all=False, verbose=False)
    for question, answer in FACTS:
        conversation = Conversation((Message("user", question),))
        text = engine.chat.render(conversation, add_generation_prompt=True).text
        ids = model.tokenize(text.encode(), add_bos=True, special=True)
        assert ids == engine.prompt(conversation)
        written = []
        for token in model.generate(ids, temp=0.0, top_k=1, repeat_penalty=1.0):
            if token in engine.stop_ids or len(written) > 80:
                break
            written.append(token)
        assert engine.decode(written) == answer


@needs_corpus(3)
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["llama-2-chat", "mistral-7b-instruct-v0.1", "mistral-7b-instruct-v0.3"])
def test_llama_cpp_cuts_with_a_sentencepiece_tokenizer_as_training_does(name, tmp_path):
    llama_cpp = pytest.importorskip("llama_cpp")
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(str(corpus_path() / "tokenizers" / name))
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        eos_token_id=tokenizer.eos_token_id, bos_token_id=tokenizer.bos_token_id,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    done = export(tmp_path / "model", tmp_path / "out", target="gguf", dtype="fp32")
    engine = Engine.load(tmp_path / "model")
    model = llama_cpp.Llama(str(done.folder / "model.gguf"), n_ctx=256, verbose=False)
    for text in (" a  b   c ", "\n\nnew\tline", "🙂 é 你好 한국어 👩‍👩‍👧", "▁x▁ 1000.5", "don't"):
        turns = (Message("user", text), Message("assistant", f"So: {text}"), Message("user", "And?"))
        written = engine.chat.render(Conversation(turns), add_generation_prompt=True).text
        ids = model.tokenize(written.encode(), add_bos=False, special=True)
        assert ids == engine.prompt(Conversation(turns)), text
