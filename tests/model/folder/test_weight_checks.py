from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.model.saved_models import assert_refused_in_one_line, broken, saved
from tests.model.tiny import tiny_model

from instil.errors import ModelError
from instil.model.folder.config import load_config
from instil.model.folder.location import locate
from instil.model.folder.weight_checks import check_finite, check_shapes


@pytest.mark.parametrize(
    ("fault", "says"), [("other size", "have another size for"), ("more layers", "lack model.layers.2")]
)
def test_weights_that_config_does_not_describe_are_refused_in_one_line(fault: str, says: str, tmp_path: Path) -> None:
    assert_refused_in_one_line(broken(tmp_path, fault), says)


@pytest.mark.parametrize(
    ("fault", "says"), [("other size", "have another size for"), ("more layers", "lack model.layers.2")]
)
def test_shapes_are_compared_without_reading_a_weight(fault: str, says: str, tmp_path: Path) -> None:
    saved(tmp_path / "right")
    location = locate(tmp_path / "right")
    model = check_shapes(location, load_config(location), trust=False)
    assert all(value.is_meta for value in model.parameters())
    location = locate(broken(tmp_path, fault))
    with pytest.raises(ModelError, match=says):
        check_shapes(location, load_config(location), trust=False)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_weight_that_is_not_finite_is_named(value: float, tmp_path: Path) -> None:
    model = tiny_model("llama")
    check_finite(tmp_path, model)
    with torch.no_grad():
        model.model.norm.weight[3] = value
    with pytest.raises(
        ModelError, match=r"model\.norm\.weight holds a value that is not a finite number \(1 such tensor\)"
    ):
        check_finite(tmp_path, model)
