"""What text of a language looks like: its letters, or its most frequent characters.

`encodings` uses it to tell a right reading of bytes from a wrong one.

Why: a wrong reading of a few bytes is often made of letters too, but of letters that no single language has together.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

_PUNCTUATION = frozenset("“”‘’„«»‹›–—…•·€£¥§©®™°±×÷½¼¾²³µªº¿¡‰†‡№\u00a0")
_WIDE_PUNCTUATION = frozenset("，。？！：；“”‘’（）《》〈〉【】「」『』、…—～·￥％＋－＝　〜・ー々〇")
_FREQUENT_HANS = frozenset(
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用道行所然家种事成方多经么去法学如都同"
    "现当没动面起看定天分还进好小部其些主样理心她本前开但因只从想实日军者意无力它与长把机十民第公此已工使情明性知全三又关点正业外将两高间由"
    "问很最重并物手应战向头文体政美相见被利什二等产或新己制身果加西斯月话合回特代内信表化老给世位次度门任常先海通教儿原东声提立及比员解水名真论"
    "处走义各入几口认条平系气题活尔更别打女变四神总何电数安少报才结反受目太量再感建务做接必场件计管期市直德资命山金指克许统区保至队形社便空决治展"
    "马科司五基眼书非则听白却界达光放强即像难且权思王象完设式色路记南品住告类求据程北边死张该交规万取拉格望觉术领共确传师观清今切院让识候带导争运"
    "请翻译句英怎吗您谢北京语"
)
_FREQUENT_HANT = frozenset(
    "的一是不了在人有我他這個們中來上大為和國地到以說時要就出會可也你對生能而子那得於著下自之年過發後作裡用道行所然家種事成方多經麼去法學如都同"
    "現當沒動面起看定天分還進好小部其些主樣理心她本前開但因只從想實日軍者意無力它與長把機十民第公此已工使情明性知全三又關點正業外將兩高間由"
    "問很最重並物手應戰向頭文體政美相見被利什二等產或新己制身果加西斯月話合回特代內信表化老給世位次度門任常先海通教兒原東聲提立及比員解水名真論"
    "處走義各入幾口認條平系氣題活爾更別打女變四神總何電數安少報才結反受目太量再感建務做接必場件計管期市直德資命山金指克許統區保至隊形社便空決治展"
    "馬科司五基眼書非則聽白卻界達光放強即像難且權思王象完設式色路記南品住告類求據程北邊死張該交規萬取拉格望覺術領共確傳師觀清今切院讓識候帶導爭運"
    "請翻譯句英怎嗎您謝臺灣北京語"
)
_FREQUENT_HANGUL = frozenset(
    "이다는의에을가고하지은도한를로기사나어서아자리대시인일들그해정있수으라만부과보전장상원게주제스여면러구오니동것세적안성거공요입까드조었무소용위신"
    "경년생문관우중국연선분미유실방물마계본와모말민결습식내양할될개된되재당비없학려음각발작금행화등회단운간데또했던더번저트르불히진통산치심명영청현"
    "알려주합녕십떻습니날씨역어질답맑늘울"
)


@dataclass(frozen=True, slots=True)
class Script:
    """Which characters beyond ASCII the text of a language has.

    Attributes:
        has: Whether a character may occur in it.
        is_frequent: Whether a character is one of its most frequent.
        is_word: Whether a word of at least four letters may occur in it.
    """

    has: Callable[[str], bool]
    is_frequent: Callable[[str], bool]
    is_word: Callable[[str], bool] = lambda word: True


def _alphabet(letters: str, *, frequent: str = "") -> Script:
    both = frozenset(letters + letters.upper()) | _PUNCTUATION
    return Script(both.__contains__, frozenset(frequent).__contains__ if frequent else both.__contains__)


def _in_rows(codec: str, first: int, last: int, others: frozenset[str]) -> Callable[[str], bool]:
    """Return a test for the characters whose first byte in a codec is in a range: its ordinary characters."""

    def has(character: str) -> bool:
        if character in others:
            return True
        try:
            data = character.encode(codec)
        except UnicodeEncodeError:
            return False
        return len(data) == 2 and first <= data[0] <= last

    return has


def _is_kana(character: str) -> bool:
    return "\u3041" <= character <= "\u30ff"


def _is_cyrillic(character: str) -> bool:
    return "\u0400" <= character <= "\u045f" or character in "ґҐ" or character in _PUNCTUATION


def _is_greek(character: str) -> bool:
    return "\u0384" <= character <= "\u03ce" or character in _PUNCTUATION


_VIETNAMESE = frozenset(
    unicodedata.normalize("NFC", vowel + tone)
    for vowel in "aăâeêioôơuưyAĂÂEÊIOÔƠUƯY"
    for tone in ("", "\u0300", "\u0301", "\u0303", "\u0309", "\u0323")
) | frozenset("đĐ₫")
_JAPANESE = _in_rows("euc_jp", 0xB0, 0xCF, _WIDE_PUNCTUATION)
_japanese = Script(
    lambda character: _is_kana(character) or "\uff61" <= character <= "\uff9f" or _JAPANESE(character), _is_kana
)
_cyrillic = Script(_is_cyrillic, _is_cyrillic, lambda word: not frozenset("аеёиоуыэюяіїє").isdisjoint(word.lower()))
# A Greek word of several syllables has one accent.
_greek = Script(_is_greek, _is_greek, lambda word: sum(letter in "άέήίόύώΐΰΆΈΉΊΌΎΏ" for letter in word) == 1)
_WESTERN = tuple(
    map(
        _alphabet,
        (
            "",
            "àâæçéèêëîïôœùûüÿ",
            "äöüß",
            "áéíñóúü",
            "àáâãçéêíóôõúü",
            "àèéìíîòóùú",
            "áéëíïóöü",
            "åäöé",
            "æøåéö",
            "àçèéíïòóúü",
            "áéíðóúýþæö",
        ),
    )
)
SCRIPTS: dict[str, tuple[Script, ...]] = {
    "gb18030": (Script(_in_rows("gb2312", 0xB0, 0xD7, _WIDE_PUNCTUATION), _FREQUENT_HANS.__contains__),),
    "cp950": (Script(_in_rows("big5", 0xA4, 0xC6, _WIDE_PUNCTUATION), _FREQUENT_HANT.__contains__),),
    "cp932": (_japanese,),
    "euc_jp": (_japanese,),
    "cp949": (Script(_in_rows("euc_kr", 0xB0, 0xC8, _WIDE_PUNCTUATION), _FREQUENT_HANGUL.__contains__),),
    "cp1252": _WESTERN,
    "mac_roman": _WESTERN,
    "cp1250": tuple(
        map(_alphabet, ("ąćęłńóśźż", "áčďéěíňóřšťúůýž", "áäčďéíĺľňóôŕšťúýž", "áéíóöőúüű", "ăâîşţ", "čćđšž"))
    ),
    "cp1251": (_cyrillic,),
    "cp1253": (_greek,),
    "cp1254": (_alphabet("çğıöşüâîûİ"),),
    "cp1258": (
        Script(lambda character: character in _VIETNAMESE or character in _PUNCTUATION, _VIETNAMESE.__contains__),
    ),
}
"""The scripts of each encoding, by the name of Python's codec."""
_ORDINARY = 0.95
_LONG = 40
_WORDS = 0.7
_PIECE = re.compile(r"[\n\t;,|\"]")


def likeness_of(text: str, codec: str) -> float:
    """Return how much a text looks like the languages of an encoding, from 0 to 1.

    Each cell or line may be in another of these languages, as in data for translation. Every one of them has to look
    like its language; in long texts a twentieth may not.
    """
    pieces = [piece for piece in _PIECE.split(text) if not piece.isascii()]
    sizes = [sum(not character.isascii() for character in piece) for piece in pieces]
    likenesses = [max(likeness(piece, script) for script in SCRIPTS[codec]) for piece in pieces]
    total = sum(sizes)
    known = sum(size for size, likeness in zip(sizes, likenesses, strict=True) if likeness > 0)
    if not total or known < total * (_ORDINARY if total >= _LONG else 1.0):
        return 0.0
    return sum(size * likeness for size, likeness in zip(sizes, likenesses, strict=True)) / total


def likeness(text: str, script: Script) -> float:
    r"""Return how much a text looks like a script, from 0 to 1: the share of frequent characters among those beyond ASCII.

    It is 0 if more than a twentieth of these characters (one of them, in short texts) do not occur in the script, or if
    words mix Latin and other letters, or have capitals behind small letters.

    Example:
        >>> likeness("wo ist die Tür", SCRIPTS["cp1252"][2]), likeness("wo ist die T\u0171r", SCRIPTS["cp1252"][2])
        (1.0, 0.0)
    """
    characters = [character for character in text if not character.isascii()]
    known = sum(map(script.has, characters))
    if not characters or known < len(characters) * (_ORDINARY if len(characters) >= _LONG else 1.0) or _mixes(text):
        return 0.0
    words = [word for word in re.findall(r"[^\W\d_]{4,}", text) if not word.isascii()]
    if sum(map(script.is_word, words)) < len(words) * _WORDS:
        return 0.0
    letters = [character for character in characters if character.isalpha()]
    if not letters:
        return 1.0 if script.is_frequent("“") else 0.0
    return sum(map(script.is_frequent, letters)) / len(letters)


def _mixes(text: str) -> bool:
    """Return whether letters stand together that are not written together, more than now and then."""
    letters = wrong = 0
    for before, letter in pairwise(text):
        if before.isascii() and letter.isascii():
            continue
        letters += 1
        if before.isalpha() and letter.isalpha():
            scripts = {"\u0370" <= letter <= "\u04ff", "\u0370" <= before <= "\u04ff"}
            wrong += len(scripts) == 2 or (before.islower() and letter.isupper())
        else:  # "œ" ends no word, and no letter follows an amount
            wrong += (before in "œ" and not letter.isalpha()) or (before in "£¥³²½¼¾±×÷" and letter.isalpha())
    return wrong * 20 > letters
