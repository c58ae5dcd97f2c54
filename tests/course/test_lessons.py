"""Every lesson runs from top to bottom with its solutions, in a real kernel without network; its form holds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.course.lesson_runs import LESSONS, ROOT, code_cells, has_tag, run_lesson

import instil
from make_notebooks import read_lesson

LEVELS = ("🐢", "🐕", "🦁")
LINK = re.compile(r"\]\((?!https?:|#)([^)\s#]+)")
by_lesson = pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.stem)


@pytest.fixture(scope="module")
def cpu_seconds(request):
    """Collects the CPU time of the lessons and prints the sum; the course is meant to stay under 360 s."""
    seconds: dict[str, float] = {}
    yield seconds
    terminal = request.config.pluginmanager.getplugin("terminalreporter")
    if terminal is not None:
        figures = ", ".join(f"{name} {value:.0f} s" for name, value in seconds.items())
        terminal.write_line(f"\ncourse: {sum(seconds.values()):.0f} s of CPU time, meant to be 360 at most ({figures})")


def files_of(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"}


@pytest.mark.long
@by_lesson
def test_a_lesson_runs_with_its_solutions(lesson, tmp_path, cpu_seconds):
    before = files_of(ROOT / "src") | files_of(ROOT / "course")
    run = run_lesson(lesson, tmp_path)
    cpu_seconds[lesson.stem] = run.cpu_seconds
    assert set(run.untouched.values()) == {"AssertionError"}, run.untouched  # an untouched exercise does not pass
    assert "Warning" not in run.errors, run.errors
    assert "Traceback" not in run.errors, run.errors
    assert list((tmp_path / "cwd").iterdir()) == []  # all its files are in the folder that it made in tmp
    assert [path for path in (tmp_path / "home").iterdir() if not path.name.startswith(".")] == []
    assert files_of(ROOT / "src") | files_of(ROOT / "course") == before


@by_lesson
def test_names_of_cells_are_unique(lesson):
    names = [cell.metadata.name for cell in code_cells(lesson) if "name" in cell.metadata]
    assert names[0] == "setup"
    assert len(names) == len(set(names)), names


def test_the_setup_cell_is_the_same_in_each_lesson():
    cells = {lesson.name: code_cells(lesson)[0].source for lesson in LESSONS}
    assert len(set(cells.values())) == 1, cells.keys()


@by_lesson
def test_each_exercise_has_a_level_a_check_and_a_hidden_solution(lesson):
    text = lesson.read_text(encoding="utf-8")
    levels = re.findall(r"^### (\S+) Exercise (\d+): \S", text, re.MULTILINE)
    assert [number for _, number in levels] == [str(number + 1) for number in range(len(levels))]
    assert {level for level, _ in levels} <= set(LEVELS)
    assert levels
    cells = {cell.metadata.get("name"): cell for cell in code_cells(lesson)}
    for _, number in levels:
        assert set(cells[f"exercise-{number}"].metadata.tags) == {"exercise", "skip-execution"}
        assert set(cells[f"check-{number}"].metadata.tags) == {"check", "skip-execution"}
        assert set(cells[f"solution-{number}"].metadata.tags) == {"solution", "hide-cell"}
        for line in re.findall(r"^\s*assert .*", cells[f"check-{number}"].source, re.MULTILINE):
            assert re.search(r""", f?["'].+["']$|\($""", line), f"{line}: an assert without a hint"
    kinds = ("exercise", "check", "solution")
    assert sum(has_tag(cell, kind) for cell in cells.values() for kind in kinds) == 3 * len(levels)
    order = [name for name in cells if name and name.startswith(kinds)]
    half = 2 * len(levels)
    assert all(name.startswith("solution") for name in order[half:])
    assert order[:half:2] == [f"exercise-{number + 1}" for number in range(len(levels))]


def hint_of(lesson: str, check: str, names: dict[str, object]) -> str:
    """Return the hint with which a check ends for a wrong answer."""
    (cell,) = [cell for cell in code_cells(ROOT / "course" / lesson) if cell.metadata.get("name") == check]
    with pytest.raises(AssertionError) as error:
        exec(cell.source, {"instil": instil, **names})
    return str(error.value)


HELLO = [{"role": "user", "content": "Hello!"}, {"role": "assistant", "content": "Hi."}]
TEMPLATE = "{% for m in messages %}{{ m.role | upper ~ ': ' ~ m.content ~ '<|stop|>\\n' }}{% endfor %}"


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (..., "answer should be the Jinja source, a string"),
        ("{% for m in messages %}", "the template cannot be used yet: .*endfor"),
        ("{% for m in messages %}{{ m.role }}{% endfor %}", "the template cannot be used yet: "),
        ("{{ raise_exception('no') }}", "the template cannot be used yet: "),
        (TEMPLATE, "the generation prompt is the beginning|the template cannot be used yet"),
    ],
)
def test_a_wrong_template_ends_in_a_hint(answer, hint):
    messages = [{"role": "system", "content": "Be kind."}, *HELLO]
    assert re.match(hint, hint_of("1-chat-templates.md", "check-3", {"answer": answer, "messages": messages}))


@pytest.mark.parametrize(
    ("weights", "hint"),
    [
        ((), "the messages have no weights yet"),
        ((1, 1), "the wrong answer is still trained"),
        ((0, 0), "no token is trained: the weight of the correction"),
        ((0, 1), "the correction should count half"),
    ],
)
def test_each_mistake_with_weights_has_a_hint_of_its_own(weights, hint):
    log = [*HELLO, HELLO[0], {"role": "assistant", "content": "You are right. It will arrive on Monday."}]
    log[1] = {"role": "assistant", "content": "It arrived last year."}
    answer = [dict(turn) for turn in log]
    for turn, weight in zip(answer[1::2], weights, strict=False):
        turn["weight"] = weight
    chat = instil.ChatTokenizer.from_pretrained("demo", template="chatml")
    assert re.match(hint, hint_of("3-what-is-trained.md", "check-3", {"answer": answer, "log": log, "chat": chat}))


@by_lesson
def test_links_of_a_lesson_exist(lesson):
    links = LINK.findall(lesson.read_text(encoding="utf-8"))
    assert links
    assert [name for name in links if not (lesson.parent / name).exists()] == []


@by_lesson
def test_a_lesson_is_markdown_that_github_shows(lesson):
    """The only directive is the code cell; figures stand in outputs, not in HTML or directives of the text."""
    text = lesson.read_text(encoding="utf-8")
    assert re.findall(r"^\s*(?:```|:::)+\{(?!code-cell\} ipython3$)", text, re.MULTILINE) == []
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    assert re.findall(r"<(?:div|img|details|table|br)\b", prose) == []
    assert [line for line in prose.splitlines() if len(line) > 120 and not line.startswith("|")] == []
    code = "\n".join(cell.source for cell in code_cells(lesson))
    assert [line for line in code.splitlines() if len(line) > 120] == []


@by_lesson
def test_a_lesson_starts_with_its_number(lesson):
    first = read_lesson(lesson).cells[0].source
    assert first.startswith(f"# {lesson.name[0]}. ")
