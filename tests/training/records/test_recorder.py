from __future__ import annotations

from instil.training.records.run_folder import Run


def test_metrics_have_one_line_a_step_with_all_fields(reference: Run):
    steps = [line for line in reference.metrics() if "loss" in line]
    assert [line["step"] for line in steps] == list(range(1, len(steps) + 1))
    for line in steps:
        assert {"loss", "learning_rate", "gradient_norm", "tokens", "trained_tokens", "seconds"} <= line.keys()
        assert line["seconds"].keys() == {"data", "forward", "backward", "update", "total"}
        assert 0 < line["trained_tokens"] < line["tokens"]
    evaluated = [line["step"] for line in reference.metrics() if "heldout_loss" in line]
    assert evaluated == [0, 4, 8, 12]
