"""Claims about ``instil inspect``, through the command line."""

from __future__ import annotations

import json

import pytest

from instil.cli import main as entry

ROWS = [
    {
        "messages": [
            {"role": "user", "content": f"What is {n} plus {n}?"},
            {"role": "assistant", "content": f"It is {2 * n}."},
        ]
    }
    for n in range(6)
]
ILL = [
    {"messages": [{"role": "human", "content": "Hi"}, {"role": "gpt", "content": "Hello."}]},
    {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": ""}]},
    ROWS[0],
]


@pytest.fixture
def rows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS + ILL), encoding="utf-8")
    return "rows.jsonl"


def run(capsys, *words):
    try:
        entry.main(["inspect", *words])
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


def test_it_prints_format_ledger_lengths_proof_and_findings(rows, capsys):
    code, out, _ = run(capsys, rows)
    assert code == 0
    for text in (
        "rows.jsonl: messages (column messages with role and content in 9 of 9 rows)",
        "rows in          9 = 8 trained + 1 left out",
        "Tokens of an example",
        "Trained share of an example",
        "template proof passed",
        "error: unknown role  1",
        "rows.jsonl:7: message 1: role 'human' is probably 'user'",
        "warning: empty answer  1",
        "warning: exact duplicate  1",
        "(--fix FILE does this)",
    ):
        assert text in out, text


def test_json_holds_the_same_and_nothing_else_is_printed(rows, capsys):
    code, out, _ = run(capsys, rows, "--json")
    assert code == 0
    got = json.loads(out)
    assert got["ledger"]["rows_in"] == 9
    assert got["proof"]["passed"] is True
    assert got["findings"]["counts"] == {"unknown_role": 1, "empty_answer": 1, "duplicate": 1}
    assert got["findings"]["kept"][0]["place"] == "rows.jsonl:7"
    assert sum(count for _, _, count in got["tokens"]["bins"]) == 8


def test_a_row_is_shown_with_its_trained_tokens_in_brackets(rows, capsys):
    code, out, _ = run(capsys, rows, "--row", "2")
    assert code == 0
    assert "⟦It·is·2.<|im_end|>⟧" in out
    assert "What·is·1·plus·1?<|im_end|>↵" in out
    _, out, _ = run(capsys, rows, "--row", "2", "--json")
    tokens = json.loads(out)["examples"][0]["tokens"]
    assert "".join(token["text"] for token in tokens if token["weight"] > 0) == "It is 2.<|im_end|>"


def test_the_page_is_written_beside_the_report(rows, capsys, tmp_path):
    code, out, _ = run(capsys, rows, "--html", "page.html", "--html-rows", "3")
    assert code == 0
    assert out.rstrip().endswith("wrote page.html: 3 of 9 rows, those with findings first; --html-rows N shows more")
    assert (tmp_path / "page.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_fix_writes_the_fixed_rows_and_prints_every_change(rows, capsys, tmp_path):
    code, out, _ = run(capsys, rows, "--fix", "out.jsonl")
    assert code == 0
    assert "rows.jsonl:7: message 1: role 'human' changed to 'user'" in out
    assert '-    "role": "human",' in out
    assert '+    "role": "user",' in out
    assert "rows.jsonl:8: left out: all of its answers are empty" in out
    assert "rows.jsonl:9: left out: the same as rows.jsonl:1" in out
    assert out.rstrip().endswith("wrote out.jsonl: 9 rows in = 7 written (1 of them fixed) + 2 left out")
    written = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert written[:6] == ROWS
    assert [turn["role"] for turn in written[6]["messages"]] == ["user", "assistant"]
    code, out, _ = run(capsys, "out.jsonl", "--json")
    assert json.loads(out)["findings"]["counts"] == {}


def test_fix_as_json_lists_the_changes(rows, capsys):
    _, out, _ = run(capsys, rows, "--fix", "out.jsonl", "--json")
    got = json.loads(out)
    assert (got["rows_in"], got["rows_out"], got["mended"], got["left_out"]) == (9, 7, 1, 2)
    assert [change["place"] for change in got["changes"]] == ["rows.jsonl:7", "rows.jsonl:8", "rows.jsonl:9"]


def test_a_recipe_may_be_inspected_and_data_settings_win(rows, capsys, tmp_path):
    (tmp_path / "recipe.yaml").write_text("data: {sources: [rows.jsonl], max_tokens: 64}\n", encoding="utf-8")
    _, out, _ = run(capsys, "recipe.yaml", "--json", "--data.max-tokens", "8")
    got = json.loads(out)
    assert got["ledger"]["rows_in"] == 9
    assert got["findings"]["counts"]["over_limit"] == 8


def test_a_folder_with_only_a_tokenizer_is_enough(rows, capsys, tmp_path):
    from tests.inspection.small_chat import small_chat

    small_chat().tokenizer.save_pretrained(tmp_path / "tokenizer")
    code, out, _ = run(capsys, rows, "--model", "tokenizer", "--row", "1")
    assert code == 0
    assert "⟦It·is·0.<|im_end|>⟧" in out


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["nowhere.jsonl"], "no such file"),
        (["rows.jsonl", "--row", "77"], "has no row 77"),
        (["rows.jsonl", "--fix", "rows.jsonl"], "exists already"),
        (["rows.jsonl", "--fix", "out.csv"], "Expected .jsonl. Choose another name for --fix"),
        (["rows.jsonl", "--html", "nowhere/page.html"], "Make it first"),
        (["rows.jsonl", "--row", "1", "--html", "page.html"], "found --row and --html"),
        (["rows.jsonl", "--html-rows", "0"], "Expected at least 1"),
        (["rows.jsonl", "--format", "alpca"], "alpaca"),
        (["rows.jsonl", "--data.max-tokns", "3"], "--data.max-tokens"),
        (["rows.jsonl", "--data.sources", "other.jsonl"], "Expected data once"),
        ([], "found no data"),
        (["rows.jsonl", "--data", "rows.jsonl"], "Expected data once"),
        (["rows.jsonl", "--model", "./nowhere"], "nowhere"),
        (["rows.jsonl", "--template", "chatmll"], "chatml"),
        (["empty.jsonl"], "holds no row"),
    ],
)
def test_bad_input_is_one_line_and_exit_status_2(rows, capsys, tmp_path, words, reason):
    (tmp_path / "empty.jsonl").write_text("")
    before = sorted(path.name for path in tmp_path.iterdir())
    code, _, err = run(capsys, *words)
    assert code == 2
    assert err.startswith("error: ")
    assert reason in err
    assert err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_standard_input_is_inspected_too(rows, capsys, tmp_path, monkeypatch):
    import io
    import sys

    monkeypatch.setenv("INSTIL_CACHE", str(tmp_path / "cache"))
    data = (tmp_path / "rows.jsonl").read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))
    code, out, _ = run(capsys, "-", "--json")
    assert code == 0
    assert json.loads(out)["findings"]["kept"][0]["place"] == "<stdin>:7"


def test_a_page_is_not_written_over_a_folder(rows, capsys, tmp_path):
    code, _, err = run(capsys, rows, "--html", str(tmp_path))
    assert code == 2
    assert "is a folder. Expected a file for the page" in err


TALLY = {"count", "places", "example"}
REPORT = {
    "": {
        *("data", "model", "template", "stop_tokens", "formats", "ledger", "tokens", "trained_tokens", "trained_share"),
        *("proof", "findings", "notes", "warnings"),
    },
    "ledger": {
        *("rows_in", "rows_trained", "rows_left_out", "rows_held_out", "left_out", "parts_left_out", "conversations"),
        *("examples", "examples_an_epoch", "tokens", "conversation_tokens", "trained_tokens", "trained_weight"),
        *("token_factor", "shortened", "escaped", "inline_reasoning", "duplicates", "overlap", "formats", "evidence"),
        *("notes", "rendered", "part_weights", "reading", "chosen", "rejected"),
    },
    "ledger.duplicates": TALLY,
    "tokens": {"count", "total", "smallest", "median", "p95", "largest", "bins"},
    "trained_share": {"bins"},
    "proof": {"passed", "num_checked", "findings", "not_carried"},
    "findings": {"counts", "kept"},
    "findings.kept.0": {"kind", "severity", "place", "seen", "remedy"},
}


def test_the_json_report_keeps_its_keys(rows, capsys):
    """Other programs read these: a key may be added here, none may go or change its meaning."""
    _, out, _ = run(capsys, rows, "--json")
    for where, keys in REPORT.items():
        value = json.loads(out)
        for step in filter(None, where.split(".")):
            value = value[int(step)] if step.isdigit() else value[step]
        assert set(value) == keys, where


def test_rows_of_which_none_can_be_trained_are_an_error_with_the_reason_once(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wrong.jsonl").write_text('{"a": 1}\n' * 5, encoding="utf-8")
    code, out, err = run(capsys, "wrong.jsonl")
    assert code == 2
    assert err == (
        "error: wrong.jsonl: none of 5 rows can be trained. Expected one at least. The findings above have the reasons.\n"
    )
    assert out.count("found columns a. Expected one of") == 1
    assert "wrong.jsonl:1, wrong.jsonl:2, wrong.jsonl:3 …: " in out
    assert "(5 times)" in out
    assert "Trained share" not in out, "an empty histogram shows nothing"
    assert "instil inspect lists them" not in out, "this is instil inspect"


PAIRS = [
    {"prompt": "Name a river.", "chosen": "The Nile.", "rejected": "I do not like rivers."},
    {"prompt": "Name a lake.", "chosen": "Lake Chad.", "rejected": "Lake Chad."},
]
JUDGED = [{"prompt": "Name a river.", "completion": "The Nile.", "label": label} for label in (True, False)]


@pytest.fixture
def pairs(rows, tmp_path):
    for name, given in (("pairs", PAIRS), ("judged", JUDGED)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in given), encoding="utf-8")
    (tmp_path / "dpo.yaml").write_text(
        "model: {name: demo}\ndata: {sources: [pairs.jsonl]}\ntraining: {objective: dpo}\n", encoding="utf-8"
    )
    return "pairs.jsonl"


@pytest.mark.parametrize(
    "words", [["pairs.jsonl", "--objective", "dpo"], ["dpo.yaml"], ["dpo.yaml", "--objective", "simpo"]]
)
def test_pairs_are_counted_with_the_lengths_of_both_sides_and_their_findings(pairs, capsys, words):
    code, out, _ = run(capsys, *words)
    assert code == 0
    for text in (
        "pairs.jsonl: preference (columns chosen, rejected in 2 of 2 rows)",
        "rows in          2 = 1 trained + 1 left out",
        "left out       1  both answers are equal (pairs.jsonl:2)",
        "pairs            1",
        "Tokens of a chosen answer",
        "Tokens of a rejected answer",
        "error: answers that are no pair  1",
    ):
        assert text in out, text


def test_an_objective_given_here_replaces_the_recipes(pairs, capsys):
    _, out, _ = run(capsys, "dpo.yaml", "--objective", "sft")
    assert "rows in          2 = 2 trained + 0 left out" in out
    assert "rejected answer " not in out


def test_judged_answers_are_counted_by_judgement(pairs, capsys):
    code, out, _ = run(capsys, "judged.jsonl", "--objective", "kto")
    assert code == 0
    assert "judged answers   2: 1 good, 1 bad" in out
    assert "Tokens of a bad answer" in out
    _, out, _ = run(capsys, "judged.jsonl", "--objective", "kto", "--row", "2")
    assert "judged bad, " in out


def test_a_row_of_a_pair_is_its_prompt_once_and_both_answers(pairs, capsys):
    code, out, _ = run(capsys, pairs, "--objective", "dpo", "--row", "1")
    assert code == 0
    lines = out.splitlines()
    assert [line for line in lines if "river.<" in line] == ["Name·a·river.<|im_end|>↵"]
    assert lines.index("⟦The·Nile.<|im_end|>⟧") < lines.index("⟦I·do·not·like·rivers.<|im_end|>⟧")
    assert "\x1b" not in out
    _, out, _ = run(capsys, pairs, "--objective", "dpo", "--row", "2", "--json")
    examples = json.loads(out)["examples"]
    assert [(one["side"], one["left_out"]) for one in examples] == [
        ("chosen", "both answers are equal"),
        ("rejected", "both answers are equal"),
    ]


def test_the_page_of_pairs_is_written(pairs, tmp_path, capsys):
    code, out, _ = run(capsys, pairs, "--objective", "dpo", "--html", "page.html")
    assert code == 0
    assert "wrote page.html: all 2 rows" in out
    assert '"pairs":[[0,' in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_an_objective_that_does_not_exist_is_named(pairs, capsys):
    code, _, err = run(capsys, pairs, "--objective", "dpq")
    assert code != 0
    assert "did you mean 'dpo'?" in err
