"""The table of course/README.md finds every point of the course in a lesson and a cell."""

from __future__ import annotations

import re

import pytest
from tests.course.lesson_runs import LESSONS, ROOT, code_cells

TEXT = (ROOT / "course" / "README.md").read_text(encoding="utf-8")
POINTS = range(1, 14)
POINT_ROW = re.compile(r"^\| (\d+) \| ([^|]+) \| \[(\d)\]\(([\w-]+\.md)\) \| `([\w-]+)` \|$", re.MULTILINE)
LESSON_ROW = re.compile(r"^\| ([1-9]) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)


def test_each_named_lesson_and_cell_exists():
    rows = POINT_ROW.findall(TEXT)
    assert rows
    names = {lesson.name: {cell.metadata.get("name") for cell in code_cells(lesson)} for lesson in LESSONS}
    for point, words, number, lesson, cell in rows:
        assert lesson.startswith(f"{number}-"), lesson
        assert cell in names[lesson], f"point {point} ({words}): {lesson} has no cell {cell}"


@pytest.mark.parametrize("point", POINTS)
def test_each_point_has_a_lesson_and_a_cell(point):
    rows = [row for row in POINT_ROW.findall(TEXT) if int(row[0]) == point]
    assert rows


def test_every_line_of_the_second_table_is_understood():
    table = TEXT.split("## Where each point of the course is taught")[1]
    lines = [line for line in table.splitlines() if line.startswith("|")][2:]
    assert len(lines) == len(POINT_ROW.findall(table))


def test_nine_lessons_are_listed_and_each_file_is_one_of_them():
    rows = {int(number): words for number, words, _ in LESSON_ROW.findall(TEXT)}
    assert list(rows) == list(range(1, 10))
    for lesson in LESSONS:
        assert f"]({lesson.name})" in rows[int(lesson.name[0])]
    for number, words in rows.items():
        written = any(lesson.name.startswith(f"{number}-") for lesson in LESSONS)
        assert written == ("](" in words), words
    assert "not written yet" in TEXT or len(LESSONS) == 9
