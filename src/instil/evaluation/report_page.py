"""An evaluation as one self-contained HTML page: figures with bars, comparison, and every answer, sortable.

No script or style is loaded from anywhere. The data stands in the page as JSON with ``<`` escaped, and the script only ever sets
text, never HTML, so an answer cannot become part of the page.
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any


def page(evaluation: dict[str, Any]) -> str:
    """Give the page of an evaluation, as `report.to_json` gives it.

    Example:
        >>> "</script><b>" in page({"data": "</script><b>"})
        False
    """
    source = files("instil.evaluation").joinpath("report_page.html").read_text(encoding="utf-8")
    data = json.dumps(evaluation, ensure_ascii=False).replace("<", "\\u003c").replace("\u2028", "\\u2028")
    return source.replace("/*DATA*/null", data.replace("\u2029", "\\u2029"))
