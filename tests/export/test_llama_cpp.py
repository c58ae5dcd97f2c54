"""A GGUF file in llama.cpp itself, where its Python package is installed."""

from __future__ import annotations

import pytest
from tests.tiny_chat import FACTS, folders

from instil.conversation import Conversation, Message
from instil.export.export import export
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
