"""Claims about columns: building and reading them imports no pandas."""

from __future__ import annotations

import subprocess
import sys


def test_packing_and_opening_import_no_pandas() -> None:
    """Its import takes longer than a thousand conversations do; pyarrow imports it behind our back."""
    code = (
        "import sys; from instil.conversation import Example, Place; from instil.preparation.store import ExampleStore, pack, trained_tokens;"
        "batch = pack([Example([5, 6], [0.0, 1.0], Place('a', 1)), Example([7], [0.0])]); trained_tokens(batch);"
        "print(ExampleStore([batch])[1].token_ids.tolist(), 'pandas' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[7]", "False"]
