"""The types of weights of an export: what they are called, which form can hold them, and how far each may stray.

The quantised ones are llama.cpp's file types that need no importance matrix. No torch is imported here, because the
command line checks a type before anything is loaded.

Why: a bound does not say that a type is good. It says that the file is what this type makes of the model, and not
damaged. The figure that was measured stands beside it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass

from instil.errors import ExportError, MissingPackageError, nearest

PLAIN_TYPES = ("fp32", "bf16", "fp16")
"""Types that are not quantised; every form can hold them."""
K_BLOCK, BLOCK = 256, 32
"""Weights in a block of llama.cpp's k-quants, and of the other types: a row is a whole number of blocks."""


@dataclass(frozen=True, slots=True)
class QuantisedType:
    """A quantised type of llama.cpp.

    Attributes:
        name: Its name, as in `llama-quantize`.
        bits: Bits a weight, about.
        bound: Largest mean KL divergence from the unquantised model, in nats a token.
    """

    name: str
    bits: float
    bound: float

    @property
    def block(self) -> int:
        """Weights in a block."""
        return BLOCK if self.name in _BLOCKS_OF_32 else K_BLOCK


_BLOCKS_OF_32 = frozenset({"q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"})
QUANTISED_TYPES: Mapping[str, QuantisedType] = {
    kind.name: kind
    for kind in (
        QuantisedType("q8_0", 8.5, 0.01),
        QuantisedType("q6_k", 6.6, 0.02),
        QuantisedType("q5_k_m", 5.7, 0.05),
        QuantisedType("q5_k_s", 5.5, 0.05),
        QuantisedType("q5_1", 6.0, 0.06),
        QuantisedType("q5_0", 5.5, 0.06),
        QuantisedType("q4_k_m", 4.9, 0.15),
        QuantisedType("q4_k_s", 4.6, 0.15),
        QuantisedType("q4_1", 5.0, 0.25),
        QuantisedType("q4_0", 4.5, 0.25),
        QuantisedType("iq4_nl", 4.5, 0.2),
        QuantisedType("iq4_xs", 4.3, 0.2),
        QuantisedType("q3_k_l", 4.3, 0.4),
        QuantisedType("q3_k_m", 3.9, 0.4),
        QuantisedType("q3_k_s", 3.5, 0.7),
        QuantisedType("iq3_m", 3.7, 0.5),
        QuantisedType("iq3_s", 3.5, 0.6),
        QuantisedType("q2_k", 3.0, 1.2),
    )
}
"""By name, from the most exact to the smallest."""
DTYPES = (*PLAIN_TYPES, *QUANTISED_TYPES)
_NEED_A_MATRIX = frozenset({"iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "iq2_m", "iq3_xxs", "iq3_xs", "q2_k_s"})
_OTHER_NAMES = {
    "f32": "fp32", "float32": "fp32", "f16": "fp16", "float16": "fp16", "bfloat16": "bf16",
    "q8": "q8_0", "q6": "q6_k", "q5": "q5_k_m", "q4": "q4_k_m", "q3": "q3_k_m", "q2": "q2_k",
    "q4_k": "q4_k_m", "q5_k": "q5_k_m", "q3_k": "q3_k_m",
}  # fmt: skip
"""Names in use elsewhere, as llama-quantize and others resolve them."""


def read_dtype(dtype: object, target: str) -> str:
    """Return a type's own name, after checking that a form can hold it and that its packages are installed.

    Args:
        dtype: The type as a user wrote it; capital letters do not matter.
        target: Form of the export, as in `instil export --as`.

    Raises:
        ExportError: If there is no such type, or the form cannot hold it.
        MissingPackageError: If llama-cpp-python is not installed, which quantises.

    Example:
        >>> read_dtype("BF16", "merged"), read_dtype("f16", "gguf")
        ('bf16', 'fp16')
    """
    name = dtype.lower() if isinstance(dtype, str) else ""
    name = _OTHER_NAMES.get(name, name)
    if name in _NEED_A_MATRIX:
        raise ExportError(
            f"dtype: {name} needs an importance matrix, which is not computed here. Expected a type without one, "
            "such as q2_k or iq3_s. Choose one, or export fp16 and run llama.cpp's llama-quantize --imatrix."
        )
    if name not in DTYPES:
        raise ExportError(
            f"dtype: found {dtype!r:.40}{nearest(name, DTYPES)}. Expected {', '.join(DTYPES)}. Choose one."
        )
    if name in QUANTISED_TYPES and target not in ("gguf", "ollama"):
        raise ExportError(
            f"dtype: {name} with --as {target}. Expected {', '.join(PLAIN_TYPES)} there: {name} is a type of GGUF "
            "files. Add --as gguf or --as ollama."
        )
    if name in QUANTISED_TYPES and importlib.util.find_spec("llama_cpp") is None:
        raise MissingPackageError("llama-cpp-python", needed_for=f"export --dtype {name}", extra="quantise")
    return name
