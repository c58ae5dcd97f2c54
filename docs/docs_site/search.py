"""Search in Chinese and Vietnamese. Sphinx has none for Vietnamese, and its Chinese one finds only single words.

Each language says how a page is cut into words for the index, here, and how a query is, in the browser.
"""

from __future__ import annotations

import functools
import logging
import re
import unicodedata
from typing import TYPE_CHECKING, ClassVar

from sphinx.search import SearchLanguage
from sphinx.search.en import SearchEnglish
from sphinx.search.zh import SearchChinese

if TYPE_CHECKING:
    from sphinx.application import Sphinx

_HAN = re.compile(r"[\u4e00-\u9fff]+")


def pairs_of(text: str) -> list[str]:
    """Return each pair of neighbouring Chinese characters.

    Example:
        >>> pairs_of("损失掩码 loss")
        ['损失', '失掩', '掩码']
    """
    return [run[i : i + 2] for run in _HAN.findall(text) for i in range(len(run) - 1)]


def without_marks(word: str) -> str:
    """Return a Vietnamese word as it is typed without tone and vowel marks.

    Example:
        >>> without_marks("định"), without_marks("tinh")
        ('dinh', 'tinh')
    """
    decomposed = unicodedata.normalize("NFD", word.replace("đ", "d").replace("Đ", "D"))
    return "".join(character for character in decomposed if not unicodedata.combining(character))


class EnglishOnce(SearchEnglish):
    """English, each word stemmed once. Why: Sphinx stems a word again on each page, a sixth of a build's time."""

    def __init__(self, options: dict[str, str]) -> None:
        super().__init__(options)
        self.stem = functools.cache(super().stem)


class ChineseByWordsAndPairs(SearchChinese):
    """Jieba's words, and each pair of neighbouring characters.

    Why: a query has no spaces either, and jieba does not run in a browser. There the query is cut into the longest
    pieces that the index has. Thanks to the pairs, whatever stands in a page is found, however jieba cut it.
    """

    # Why: English words in a query are stemmed by "EnglishStemmer". Sphinx 9.0 looks for it under this name.
    language_name = "English"
    js_splitter_code = """
var splitQuery = (query) => {
  const isKnown = (piece) =>
    Object.hasOwn(Search._index.terms, piece) || Object.hasOwn(Search._index.titleterms, piece);
  const piecesOf = (run) => {
    const pieces = [];
    for (let start = 0; start < run.length; ) {
      let end = run.length;
      while (end > start + 1 && !isKnown(run.slice(start, end))) end--;
      if (end > start + 1) pieces.push(run.slice(start, end));
      start = end;
    }
    return pieces.length ? pieces : [run];
  };
  return (query.match(/[\\u4e00-\\u9fff]+|[\\p{Letter}\\p{Number}_]+/gu) || [])
    .flatMap((word) => (/^[\\u4e00-\\u9fff]/.test(word) ? piecesOf(word) : [word]));
};
"""

    def __init__(self, options: dict[str, str]) -> None:
        super().__init__(options)
        self.stem = functools.cache(super().stem)

    def split(self, input: str) -> list[str]:
        """Return the words of a text and its pairs of characters."""
        return [*super().split(input), *pairs_of(input)]


class Vietnamese(SearchLanguage):
    """Syllables between spaces, as written and without their marks.

    Why: there is no stemming in Vietnamese, and many people type a query without marks. A query with marks finds only
    that word. English stop words such as "do" and "no" are Vietnamese words, so there are none.
    """

    lang = "vi"
    language_name = "Vietnamese"
    stopwords: ClassVar[frozenset[str]] = frozenset()
    js_splitter_code = """
var splitQuery = (query) => query.normalize("NFC").match(/[\\p{Letter}\\p{Number}_]+/gu) || [];
"""

    def split(self, input: str) -> list[str]:
        """Return the words of a text, and those with marks without them as well."""
        words = super().split(unicodedata.normalize("NFC", input))
        return [form for word in words for form in dict.fromkeys((word, without_marks(word)))]

    def stem(self, word: str) -> str:
        """Return the word in lower case, as the browser looks it up."""
        return word.lower()


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the languages to a build."""
    logging.getLogger("jieba").setLevel(logging.WARNING)
    app.add_search_language(EnglishOnce)
    app.add_search_language(ChineseByWordsAndPairs)
    app.add_search_language(Vietnamese)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
