"""The names of types: what is allowed where, and what to do if it is not. None of this needs llama.cpp."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

from instil.cli.main import main
from instil.errors import ExportError, MissingPackageError
from instil.exporting.gguf_types import DTYPES, PLAIN_TYPES, QUANTISED_TYPES, read_dtype


@pytest.fixture
def with_llama(monkeypatch):
    """Answers that the package is there or not, whatever is installed."""
    find = importlib.util.find_spec

    def choose(there: bool):
        monkeypatch.setattr(
            importlib.util,
            "find_spec",
            lambda name: (object() if there else None) if name == "llama_cpp" else find(name),
        )

    return choose


@pytest.mark.parametrize("target", ["gguf", "ollama"])
def test_every_type_is_read_in_any_case_and_under_the_names_of_other_tools(target, with_llama):
    with_llama(True)
    assert [read_dtype(name.upper(), target) for name in DTYPES] == list(DTYPES)
    for other, name in (("f16", "fp16"), ("F32", "fp32"), ("Q4_K", "q4_k_m"), ("q8", "q8_0"), ("bfloat16", "bf16")):
        assert read_dtype(other, target) == name


def test_old_spellings_stay_valid_for_every_form(with_llama):
    with_llama(False)
    for target in ("merged", "adapter", "4bit", "gguf", "ollama"):
        assert [read_dtype(name, target) for name in PLAIN_TYPES] == list(PLAIN_TYPES)


@pytest.mark.parametrize(
    ("dtype", "target", "words"),
    [
        ("q4_k_m", "merged", 'Add target="gguf" or target="ollama".'),
        ("q4_k_m", "adapter", "is a type of GGUF files"),
        ("q4_k_n", "gguf", "did you mean 'q4_k_"),
        ("fp8", "gguf", "Expected fp32, bf16, fp16, q8_0"),
        ("iq2_xxs", "gguf", "needs an importance matrix"),
        ("IQ1_S", "ollama", "llama-quantize --imatrix"),
        (5, "gguf", "found 5"),
        (None, "merged", "found None"),
        ("", "merged", "found ''"),
    ],
)
def test_a_wrong_type_is_explained(dtype, target, words, with_llama):
    with_llama(True)
    with pytest.raises(ExportError) as refusal:
        read_dtype(dtype, target)
    assert words in str(refusal.value)


def test_without_the_package_the_command_to_install_it_is_named_before_anything_is_read(with_llama, tmp_path, capsys):
    with_llama(False)
    with pytest.raises(MissingPackageError, match=r"pip install 'instil\[quantise\]'"):
        read_dtype("q8_0", "gguf")
    with pytest.raises(SystemExit) as end:
        main(["export", str(tmp_path / "none"), str(tmp_path / "out"), "--as", "gguf", "--dtype", "Q8_0"])
    assert end.value.code == 2
    assert "llama-cpp-python is not installed" in capsys.readouterr().err


def test_bounds_grow_as_bits_fall():
    kinds = list(QUANTISED_TYPES.values())
    assert all(0 < kind.bound < 2 for kind in kinds)
    by_family = [[kind for kind in kinds if kind.name.startswith(start)] for start in ("q5_k", "q4_k", "q3_k", "q")]
    for family in by_family[:3]:
        assert [kind.bound for kind in family] == sorted(kind.bound for kind in family)
    assert QUANTISED_TYPES["q8_0"].bound < QUANTISED_TYPES["q4_k_m"].bound < QUANTISED_TYPES["q2_k"].bound
    assert {kind.block for kind in kinds} == {32, 256}


def test_the_table_loads_no_torch():
    script = "import sys, instil.exporting.gguf_types\nprint('torch' in sys.modules, 'llama_cpp' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
