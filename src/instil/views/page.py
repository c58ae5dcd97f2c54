"""A whole page as one HTML file: the look that all pages share, with its own style, script and data.

The mask page, the report of a run and that of an evaluation are made here. `page.css` has the colours and the elements.

Why: the content-security policy holds the hashes of exactly this style and script, and allows no request. Text from the
data cannot run, even if it escaped. So a page has no `style` attribute; drawings have the attributes of SVG.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from typing import Any

from instil import __version__
from instil.views.html import escaped, style_sheet


def html_page(title: str, *, body: str, style: str = "", script: str = "", data: Any = None) -> str:
    """Return a page that needs no other file and no network.

    Args:
        title: Title of the browser's tab; text.
        body: HTML of the body, whose texts are escaped.
        style: Rules of this page, which follow those of all pages.
        script: Its script.
        data: A JSON value for the script, in the element with the id ``data``.
    """
    style = style_sheet("page.css") + style
    scripts = f"'{_hash(script)}'" if script else "'none'"
    policy = (
        f"default-src 'none'; script-src {scripts}; style-src '{_hash(style)}'; base-uri 'none'; form-action 'none'"
    )
    return "".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n',
            f'<meta http-equiv="Content-Security-Policy" content="{html.escape(policy, quote=False)}">\n',
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n',
            '<meta name="color-scheme" content="light dark">\n',
            f'<meta name="generator" content="instil {html.escape(__version__)}">\n',
            f"<title>{escaped(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n{body}\n",
            "" if data is None else f'<script type="application/json" id="data">{as_script_json(data)}</script>\n',
            f"<script>{script}</script>\n" if script else "",
            "</body>\n</html>\n",
        ]
    )


def as_script_json(value: Any) -> str:
    r"""Return JSON for the inside of a script element: nothing in it can end the element or open a comment.

    Example:
        >>> as_script_json({"text": "</script><!--&"})
        '{"text":"\\u003c/script\\u003e\\u003c!--\\u0026"}'
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    # half a surrogate pair cannot be written as UTF-8; as an escape it can
    return "".join(f"\\u{ord(c):04x}" if "\ud800" <= c <= "\udfff" else c for c in text) if _has_half(text) else text


def _has_half(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
