from __future__ import annotations

import json
import warnings

import pytest
from tests.tiny_chat import FACTS, folders

from instil.errors import EvaluationError
from instil.generation.engine import Engine

TASK = """\
task: tiny_facts
dataset_path: json
dataset_kwargs:
  data_files: {data}
test_split: train
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs:
  until: []
  max_gen_toks: 16
  do_sample: false
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
"""


@pytest.mark.slow
def test_lm_eval_runs_a_local_task_through_the_chat_template(tmp_path, monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("lm_eval")
        from instil.evaluation.harness import run_harness

        monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
        data = tmp_path / "facts.jsonl"
        data.write_text(
            "".join(json.dumps({"question": q, "answer": a}) + "\n" for q, a in FACTS[:2]), encoding="utf-8"
        )
        (tmp_path / "tasks").mkdir()
        (tmp_path / "tasks" / "tiny.yaml").write_text(TASK.format(data=data), encoding="utf-8")
        engine = Engine.load(folders()["tuned"])
        lines = run_harness(engine, ["tiny_facts"], folder=tmp_path / "tasks", out=tmp_path / "out")
        assert any(line.startswith("tiny_facts: exact_match") and "1.0000" in line for line in lines), lines
        assert json.loads((tmp_path / "out" / "harness.json").read_text(encoding="utf-8"))["results"]["tiny_facts"]
        with pytest.raises(EvaluationError, match="no such folder"):
            run_harness(engine, ["x"], folder=tmp_path / "none")
        with pytest.raises(EvaluationError, match="lm-eval cannot run it"):
            run_harness(engine, ["no_such_task"], folder=tmp_path / "tasks")
