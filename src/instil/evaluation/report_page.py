"""Make one self-contained HTML page of an evaluation: bars, comparison, and a sortable table of all answers.

The page loads no script or style. It contains the data as JSON with ``<`` escaped, and its script sets text only, never
HTML. An answer therefore cannot become part of the page.
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any


def page(evaluation: dict[str, Any]) -> str:
    """Return the HTML page of an evaluation, whose values come from `report.to_json`.

    Example:
        >>> "</script><b>" in page({"data": "</script><b>"})
        False
    """
    source = files("instil.evaluation").joinpath("report_page.html").read_text(encoding="utf-8")
    # Line separators of Unicode are line breaks in older JavaScript, where they would end a string.
    data = json.dumps(evaluation, ensure_ascii=False).replace("<", "\\u003c").replace("\u2028", "\\u2028")
    return source.replace("/*DATA*/null", data.replace("\u2029", "\\u2029"))
