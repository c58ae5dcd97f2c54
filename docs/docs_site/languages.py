"""The languages of the site: the switcher, and which pages are translated as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sphinx.locale import get_translation

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.config import Config

LANGUAGES = {"en": "English", "zh_CN": "简体中文", "vi": "Tiếng Việt"}
"""Folder of the site → how its readers call the language."""
TRANSLATIONS = tuple(code for code in LANGUAGES if code != "en")
"""The languages that have catalogues; English is the source."""
FULLY_TRANSLATED = ("docs/index", "docs/start/", "docs/how-to/", "docs/how-it-works/scaling", "course/")
"""Pages, or shelves, with every paragraph in every language. Others have their title and summary translated."""
_ = get_translation("sphinx")


def tag_of(code: str) -> str:
    """Return the tag that HTML has for a language.

    Example:
        >>> tag_of("zh_CN")
        'zh-CN'
    """
    return code.replace("_", "-")


def is_fully_translated(page: str) -> bool:
    """Return whether every paragraph of a page is translated.

    Example:
        >>> is_fully_translated("docs/how-to/lora"), is_fully_translated("docs/reference/settings")
        (True, False)
    """
    return page.startswith(FULLY_TRANSLATED)


def _translate_prompts(app: Sphinx, config: Config) -> None:
    config.nb_code_prompt_show = str(_("Show code cell {type}"))
    config.nb_code_prompt_hide = str(_("Hide code cell {type}"))


def _add_languages(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object) -> None:
    context["languages"] = [
        {"name": name, "code": tag_of(code), "is_current": code == app.config.language, "folder": code}
        for code, name in LANGUAGES.items()
    ]
    is_page = doctree is not None
    if is_page and app.config.language != "en" and not is_fully_translated(page):
        # The words are in docs/locale/LANGUAGE/LC_MESSAGES/sphinx.po.
        notice = _("The text of this page is in English.")
        context["body"] = context["body"].replace("</h1>", f'</h1>\n<p class="notice">{notice}</p>', 1)


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the switcher to a build."""
    app.connect("config-inited", _translate_prompts)
    app.connect("html-page-context", _add_languages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
