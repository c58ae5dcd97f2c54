"""Claims about the mask page: what it holds, that nothing in the data can act in it, and how it works in a browser."""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass

import pytest
from tests.inspection.browser import Browser, needs_chromium

from instil.conversation import Place
from instil.inspection.findings import Finding
from instil.inspection.page import PageText, build_page
from instil.inspection.shown_rows import ShownExample, ShownRow
from instil.views.tokens import blocks_of

EVIL = '</script><script>window.evil=1</script><img src=x onerror="window.evil=2"><!--&lt; {{data}} \u2028'


@dataclass(frozen=True)
class Token:
    id: int
    text: str
    weight: float = 0.0
    message: int | None = None
    field: str | None = None


def chat_tokens(answer="Hello.", weight=1.0):
    return [
        Token(1, "<|im_start|>"),
        Token(2, "user\n"),
        Token(3, "Hi", message=0, field="content"),
        Token(4, "<|im_end|>"),
        Token(5, "\n"),
        Token(1, "<|im_start|>"),
        Token(6, "assistant\n"),
        Token(7, answer, weight, 1, "content"),
        Token(4, "<|im_end|>", weight),
        Token(5, "\n"),
    ]


def row(number, *examples, findings=()):
    place = Place("rows.jsonl", number)
    shown = tuple(
        ShownExample(tokens, ("user", "assistant")) for tokens in examples or (chat_tokens(f"Hello {number}."),)
    )
    return ShownRow(place, shown, tuple(Finding(kind, place, "seen there") for kind in findings))


def pair_row(number, chosen="The Nile.", rejected="I do not like rivers.", *, findings=(), **more):
    sides = [
        ShownExample(chat_tokens(answer), ("user", "assistant"), side=side, pair=1, **more)
        for side, answer in (("chosen", chosen), ("rejected", rejected))
    ]
    place = Place("pairs.jsonl", number)
    return ShownRow(place, tuple(sides), tuple(Finding("no_pair", place, seen) for seen in findings))


ROWS = [
    row(1),
    row(2, findings=["empty_answer"]),
    row(3, chat_tokens("first"), chat_tokens("second")),
    row(4, chat_tokens(EVIL, 0.5), findings=["loop", "empty_answer"]),
    row(5, chat_tokens("many\n" * 3, 2.0)),
]
SEVERAL = [
    dataclasses.replace(side, pair=number)
    for number, rejected in ((1, "Lake Chad."), (2, "No river."))
    for side in pair_row(3, rejected=rejected).examples
]
PAIRS = [
    pair_row(1),
    pair_row(2, "Equal.", "Equal.", left_out="both answers are equal", findings=["both answers are equal. Remove it."]),
    ShownRow(Place("pairs.jsonl", 3), tuple(SEVERAL)),
]
TEXT = PageText(
    title=f"rows.jsonl {EVIL}",
    facts=["model demo"],
    ledger=["rows in 5 = 5 trained + 0 left out"],
    formats=["rows.jsonl: messages"],
    proof_passed=True,
    proof=["proof passed"],
    charts=[("Tokens of an example", [("8–15", 5), ("16–31", 0)])],
    counts={"empty_answer": 2, "loop": 1},
)


def data_of(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])


def test_every_token_can_be_read_back_from_the_page():
    data = data_of(build_page(ROWS, TEXT))
    assert len(data["rows"]) == len(ROWS)
    for packed, shown in zip(data["rows"], ROWS, strict=True):
        for example, given in zip(packed["examples"], shown.examples, strict=True):
            origins = [run[1:] for run in example["runs"] for _ in range(run[0])]
            read = [
                (*data["pieces"][piece], weight, message, None if field is None else data["fields"][field])
                for piece, (weight, message, field) in zip(example["tokens"], origins, strict=True)
            ]
            assert read == [(t.id, t.text, t.weight, t.message, t.field) for t in given.tokens]


def test_the_page_asks_for_nothing_and_nothing_in_the_data_can_end_its_script():
    page = build_page(ROWS, TEXT)
    assert not re.search(r'(?:src|href|action)\s*=\s*["\']?\s*(?:https?:)?//', page)
    assert "@import" not in page
    assert "url(" not in page
    assert page.count("<script") == 2
    assert "default-src 'none'" in page
    assert "unsafe" not in page


@pytest.mark.slow
def test_distinct_tokens_are_written_once():
    many = [row(number, chat_tokens("Hello.")) for number in range(1, 1001)]
    data = data_of(build_page(many, TEXT))
    assert len(data["pieces"]) == 7
    assert len(build_page(many, TEXT)) - len(build_page(many[:500], TEXT)) < 500 * 300


def test_blocks_start_where_a_turn_starts():
    assert blocks_of(chat_tokens(), ("user", "assistant")) == [(0, "1 user"), (5, "2 assistant")]
    llama = [
        Token(1, "<|start_header_id|>"),
        Token(2, "user"),
        Token(3, "<|end_header_id|>"),
        Token(4, "\n\n"),
        Token(5, "Hi", message=0),
        Token(6, "<|eot_id|>"),
        Token(1, "<|start_header_id|>"),
        Token(7, "assistant"),
        Token(3, "<|end_header_id|>"),
        Token(4, "\n\n"),
        Token(8, "Hello", 1.0, 1),
        Token(6, "<|eot_id|>", 1.0),
    ]
    assert blocks_of(llama, ("user", "assistant")) == [(0, "1 user"), (6, "2 assistant")]
    assert blocks_of([Token(1, "x")], ()) == [(0, "template")]
    assert blocks_of([], ()) == []
    tools = [Token(1, "[T]"), Token(2, "get", message=-1), Token(3, "[/T]"), Token(4, "Hi", message=0)]
    assert blocks_of(tools, ("user",)) == [(0, "tools"), (3, "1 user")]


def test_a_pair_is_on_the_page_with_its_sides_and_what_they_have_in_common():
    data = data_of(build_page([*PAIRS, ROWS[0]], TEXT))
    first, left_out, several, plain = data["rows"]
    assert first["pairs"] == [[0, 7]]
    assert [(side["side"], side["answer"], side["leftOut"]) for side in first["examples"]] == [
        ("chosen", "chosen", None),
        ("rejected", "rejected", None),
    ]
    assert {side["leftOut"] for side in left_out["examples"]} == {"both answers are equal"}
    assert several["pairs"] == [[0, 7], [2, 7]]
    assert "pairs" not in plain
    assert "side" not in plain["examples"][0]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    path = folder / "page.html"
    path.write_text(build_page(ROWS, TEXT), encoding="utf-8")
    (folder / "pairs.html").write_text(build_page(PAIRS, dataclasses.replace(TEXT, counts={"no_pair": 1})))
    browser = Browser(folder / "profile")
    browser.url, browser.pairs = path.as_uri(), (folder / "pairs.html").as_uri()
    yield browser
    browser.close()


@pytest.mark.slow
@needs_chromium
class TestInChromium:
    def test_it_draws_the_first_row_without_a_request_or_an_error(self, page):
        page.open(page.url)
        assert page.text("#place") == "rows.jsonl:1"
        assert page.text("#counts") == "10 tokens, 2 trained (20%)"
        assert page.text("#tokens .full") == "Hello" + " 1."
        assert page.run("document.querySelectorAll('#tokens .block').length") == 2
        assert page.requests == [page.url]
        assert page.problems == []

    def test_keys_go_from_row_to_row_and_stop_at_the_ends(self, page):
        page.open(page.url)
        seen = []
        for key in ("k", "j", "ArrowRight", "End", "j", "ArrowLeft", "Home"):
            page.press(key)
            seen.append(page.text("#place").removeprefix("rows.jsonl:"))
        assert seen == ["1", "2", "3", "5", "5", "4", "1"]

    def test_the_filter_leaves_only_rows_with_that_finding(self, page):
        page.open(page.url + "#filter=empty_answer")
        assert page.text("#rows") == "of 2"
        assert page.text("#place") == "rows.jsonl:2"
        assert "empty answer: seen there" in page.text("#row-findings")
        page.press("j")
        assert page.text("#place") == "rows.jsonl:4"
        page.run("document.querySelector('#findings button[data-kind=loop]').click()")
        assert page.text("#rows") == "of 1"
        assert page.run("document.getElementById('filter').value") == "loop"
        page.run("document.querySelector('#findings button[data-kind=loop]').click()")
        assert page.text("#rows") == "of 5"
        assert page.text("#place") == "rows.jsonl:4"

    def test_tokens_are_reached_by_keyboard_and_say_id_text_weight_message_and_field(self, page):
        page.open(page.url)
        assert page.run("document.getElementById('card').hidden") is True
        page.press("t")
        assert page.text("#card-text") == '"Hello 1."'
        facts = page.run("[...document.querySelectorAll('#card dd')].map(e => e.textContent)")
        assert facts == ["7", "1, trained", "2 (assistant)", "content", "7"]
        page.press("ArrowRight")
        facts = page.run("[...document.querySelectorAll('#card dd')].map(e => e.textContent)")
        assert facts == ["4", "1, trained", "none: printed by the template", "none", "8"]
        page.press("Escape")
        assert page.run("document.getElementById('card').hidden") is True
        assert page.text("#place") == "rows.jsonl:1"

    def test_the_mouse_shows_the_same_card(self, page):
        page.open(page.url)
        page.point_at("#tokens .token.read")
        assert page.text("#card-text") == '"Hi"'
        assert page.run("document.getElementById('card').hidden") is False
        page.point_at("#title")
        assert page.run("document.getElementById('card').hidden") is True

    def test_examples_of_a_row_are_turned_over(self, page):
        page.open(page.url + "#row=3")
        assert page.run("document.querySelectorAll('#examples button').length") == 2
        assert page.text("#tokens .full") == "first"
        page.press("e")
        assert page.text("#tokens .full") == "second"

    def test_markup_in_the_data_is_shown_as_text(self, page):
        page.open(page.url + "#row=4")
        assert page.run("window.evil") is None
        assert page.run("document.querySelector('#tokens .part').textContent").replace("⟨2028⟩", "\u2028") == EVIL
        assert page.text("#title").endswith(EVIL)
        assert page.run("document.images.length") == 0
        assert page.requests.count("x") == 0

    def test_what_is_trained_can_be_told_without_colour(self, page):
        page.open(page.url + "#row=5")
        style = "getComputedStyle(document.querySelector('#tokens .more.run-start'){})"
        assert page.run(style.format("") + ".textDecorationLine") == "underline"
        assert page.run(style.format(", '::before'") + ".content") == '"⟦"'
        ends = "getComputedStyle(document.querySelector('#tokens .more.run-end'), '::after').content"
        assert page.run(ends) == '"⟧" "×2"' or page.run(ends) == '"⟧×2"'

    def test_the_help_opens_and_closes_by_key(self, page):
        page.open(page.url)
        page.press("?")
        assert page.run("document.getElementById('help').open") is True
        page.press("Escape")
        assert page.run("document.getElementById('help').open") is False

    def test_thousands_of_rows_and_a_row_of_many_tokens_stay_usable(self, page, tmp_path):
        long = [Token(9, " word", 1.0, 1, "content")] * 20_000
        rows = [row(number, [*chat_tokens()[:7], *long[:150]]) for number in range(1, 5001)] + [row(5001, long)]
        path = tmp_path / "big.html"
        path.write_text(build_page(rows, TEXT), encoding="utf-8")
        page.open(path.as_uri() + "#row=5001")
        assert page.run("document.querySelectorAll('#tokens .token').length") == 6000
        assert "14,000 further tokens" in page.text("#rest")
        page.run("document.getElementById('rest').click()")
        assert page.run("document.querySelectorAll('#tokens .token').length") == 12_000
        page.run("for (let n = 0; n < 50; n += 1) go(n)")  # one row stands in the page at a time, whatever went before
        assert page.run("document.querySelectorAll('#tokens .token').length") == len(rows[49].examples[0].tokens)
        assert page.run("document.querySelectorAll('*').length") < 1500


@pytest.mark.slow
@needs_chromium
class TestPairsInChromium:
    @pytest.fixture(autouse=True)
    def wide(self, page):
        page.requests.clear()
        yield
        page.send("Emulation.clearDeviceMetricsOverride")
        page.send("Emulation.setEmulatedMedia", features=[])
        assert {url.split("#")[0] for url in page.requests} <= {page.pairs}
        assert page.problems == []

    def boxes(self, page):
        return page.run(
            "[...document.querySelectorAll('#tokens .side')].map(s => (b => [b.left, b.top, b.right, b.bottom])(s.getBoundingClientRect()))"
        )

    def test_the_prompt_stands_once_and_both_answers_beside_each_other(self, page):
        page.open(page.pairs)
        assert page.text("#counts") == "the same for both: 7 tokens, only read"
        assert (
            page.run("[...document.querySelectorAll('#tokens .token')].filter(t => t.textContent === 'Hi').length") == 1
        )
        assert page.text("#tokens .side.chosen .head") == "chosen 2 of 10 tokens trained"
        assert page.text("#tokens .side.rejected .head") == "rejected 2 of 10 tokens trained"
        assert page.text("#tokens .side.rejected .full") == "I do not like rivers."
        assert page.run("document.querySelectorAll('#tokens .side .run-end').length") == 2
        assert "for the better answer or against the worse one" in page.text(".legend")
        (left, top, right, _), (other_left, other_top, *_) = self.boxes(page)
        assert top == other_top
        assert right < other_left
        assert left < right

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_a_narrow_window_stacks_them_without_scrolling_sideways(self, page, scheme):
        page.send("Emulation.setDeviceMetricsOverride", width=400, height=900, deviceScaleFactor=1, mobile=False)
        page.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        page.open(page.pairs)
        (left, _, _, bottom), (other_left, other_top, *_) = self.boxes(page)
        assert left == other_left
        assert bottom <= other_top
        assert page.run("document.documentElement.scrollWidth") == 400
        red, *_ = map(int, re.findall(r"\d+", page.run("getComputedStyle(document.body).backgroundColor")))
        assert (red < 128) == (scheme == "dark")

    def test_tokens_of_both_sides_are_reached_by_keyboard_and_by_mouse(self, page):
        page.open(page.pairs)
        page.press("t")
        assert page.text("#card-text") == '"The Nile."'
        assert page.text("#card-facts").endswith("position7answerchosen")
        for _ in range(2):
            page.press("ArrowRight")
        page.press("t")
        assert page.text("#card-text") == '"I do not like rivers."'
        assert page.text("#card-facts").endswith("position7answerrejected")
        page.press("Escape")
        page.point_at("#tokens .side.chosen .full")
        assert page.text("#card-text") == '"The Nile."'

    def test_a_pair_that_is_left_out_has_its_reason_and_trains_nothing(self, page):
        page.open(page.pairs + "#row=2")
        assert page.text("#counts").startswith("left out (both answers are equal): nothing of it is trained.")
        assert page.text("#tokens .side.chosen .head") == "chosen 10 tokens, none trained"
        assert page.text("#row-findings") == "error, answers that are no pair: both answers are equal. Remove it."
        page.press("t")
        assert "1, but left out" in page.text("#card-facts")

    def test_pairs_of_one_row_are_turned_over(self, page):
        page.open(page.pairs + "#row=3")
        assert page.text("#examples") == "pair 1 of 2pair 2 of 2"
        assert page.text("#tokens .rejected .full") == "Lake Chad."
        page.press("e")
        assert page.text("#tokens .rejected .full") == "No river."
        page.press("e")
        assert page.text("#tokens .rejected .full") == "Lake Chad."

    def test_long_answers_are_drawn_in_parts(self, page, tmp_path):
        word = [Token(9, " word", 1.0, 1, "content")]
        sides = tuple(
            ShownExample([*chat_tokens()[:7], *word * count], ("user", "assistant"), side=side, pair=1)
            for side, count in (("chosen", 100), ("rejected", 9000))
        )
        (tmp_path / "long.html").write_text(build_page([ShownRow(Place("a.jsonl", 1), sides)], TEXT), encoding="utf-8")
        page.open((tmp_path / "long.html").as_uri())
        assert "3,000 of 3,000 further tokens" in page.text("#rest")
        page.run("document.getElementById('rest').click()")
        assert page.run("document.querySelectorAll('#tokens .token').length") == 7 + 100 + 9000
        page.requests.remove((tmp_path / "long.html").as_uri())
