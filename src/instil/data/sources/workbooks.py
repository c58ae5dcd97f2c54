"""Stream the rows of an Excel workbook (.xlsx): one sheet, its first row with text as the header.

Every cell becomes text, as in a CSV file. Formulas give the value that the program saved.

Why: of a merged cell only its first cell has the value. Down a column it belongs to every row; across columns it would
give one text several meanings, so such a row is an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

from instil.conversation import Place
from instil.data.sources.csv_rows import named_columns
from instil.data.sources.stored import SourceFile
from instil.errors import DataError, MissingPackageError, first_line_of, nearest
from instil.remote.ranged_files import RemoteFile

_ERRORS = frozenset({"#NULL!", "#DIV/0!", "#VALUE!", "#REF!", "#NAME?", "#NUM!", "#N/A", "#SPILL!", "#CALC!"})


def sheet_of(path: SourceFile, source: str, *, sheet: str | None = None) -> str:
    """Return the name of the sheet that is read: the first one, or the one that `data.sheet` names.

    Raises:
        DataError: If it is no workbook, or has no such sheet.
        MissingPackageError: If openpyxl is not installed.
    """
    with closing(_opened(path, source, read_only=True)) as book:
        return _sheet_name(book, source, sheet)


def read_workbook(path: SourceFile, source: str, *, sheet: str | None = None) -> Iterator[tuple[Place, Any]]:
    """Yield each row of a sheet as a mapping of texts, with its number in the sheet.

    A row that cannot be read is yielded as a `DataError` with its cell, so that the caller can skip it.

    Raises:
        DataError: If it is no workbook, has no such sheet, the sheet holds no row, or the header has a name twice.
        MissingPackageError: If openpyxl is not installed.
    """
    book = _opened(path, source)
    name = _sheet_name(book, source, sheet)
    values = book[name]
    formulas = _opened(path, source, data_only=False)[name]
    others = [sheet.title for sheet in book.worksheets if sheet.title != name]
    source = f"{source}:{name}"
    wide = _fill_down(values)
    header: list[str] = []
    has_row = False
    for number, cells in enumerate(values.iter_rows(), start=1):
        texts = [_text(cell.value) for cell in cells]
        place = Place(source, number)
        if not any(text.strip() for text in texts) and not _has_formula(formulas, number):
            continue
        if not header:
            header = named_columns(texts, place)
            continue
        has_row = True
        fault = _fault(cells, formulas, wide)
        yield place, DataError(f"{place}: {fault}") if fault else _row(header, texts, place)
    if not has_row:
        remedy = (
            f"Other sheets: {', '.join(others)}. Set data.sheet to the one with the rows." if others else "Check it."
        )
        raise DataError(f"{source}: the sheet holds no row. Expected a header and at least one row. {remedy}")


def _opened(path: SourceFile, source: str, *, data_only: bool = True, read_only: bool = False) -> Any:
    try:
        import openpyxl  # Why: optional
    except ImportError:
        raise MissingPackageError("openpyxl", needed_for=source, extra="excel") from None
    try:
        return openpyxl.load_workbook(
            path.open() if isinstance(path, RemoteFile) else path, data_only=data_only, read_only=read_only
        )
    except Exception as error:  # openpyxl raises errors of zipfile, XML and its own
        raise DataError(
            f"{source}: is no readable workbook ({first_line_of(error)}). Expected an .xlsx file without a password. "
            "Save it again."
        ) from None


def _sheet_name(book: Any, source: str, sheet: str | None) -> str:
    names: list[str] = [found.title for found in book.worksheets]
    if sheet is None and names:
        return names[0]
    if sheet not in names:
        raise DataError(
            f"{source}: has no sheet {sheet!r}{nearest(str(sheet), names)}. Expected one of: {', '.join(names)}. "
            "Set data.sheet."
        )
    return sheet


def _fill_down(values: Any) -> dict[int, str]:
    """Give every cell of a range that is merged down a column its value. Return the rows of wider ranges."""
    wide: dict[int, str] = {}
    for merged in list(values.merged_cells.ranges):
        value = values.cell(merged.min_row, merged.min_col).value
        if merged.min_col != merged.max_col:
            wide.update(dict.fromkeys(range(merged.min_row, merged.max_row + 1), str(merged)))
            continue
        values.unmerge_cells(str(merged))
        for row in range(merged.min_row, merged.max_row + 1):
            values.cell(row, merged.min_col).value = value
    return wide


def _text(value: Any) -> str:
    """Return a cell's value as text: a whole number without a point, a date as ISO 8601."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return format(value, ".15g")
    if hasattr(value, "isoformat"):
        return str(value.isoformat()).removesuffix("T00:00:00")
    return str(value)


def _has_formula(formulas: Any, number: int) -> bool:
    return any(cell.data_type == "f" for cell in formulas[number])


def _fault(cells: Sequence[Any], formulas: Any, wide: dict[int, str]) -> str:
    """Return what is wrong with the cells of a row, or an empty string."""
    if cells and cells[0].row in wide:
        return f"cells {wide[cells[0].row]} are merged across columns. Expected one value per column. Split them."
    for cell in cells:
        if isinstance(cell.value, str) and cell.value in _ERRORS:
            return f"cell {cell.coordinate} holds the error {cell.value}. Expected a value. Fix the cell."
        if cell.value is None and formulas[cell.coordinate].data_type == "f":
            return (
                f"cell {cell.coordinate} is a formula without a saved value. Expected its value. "
                "Open the workbook in a spreadsheet program and save it."
            )
    return ""


def _row(header: Sequence[str], texts: Sequence[str], place: Place) -> Any:
    stray = next((at for at, text in enumerate(texts) if text.strip() and (at >= len(header) or not header[at])), None)
    if stray is not None:
        return DataError(f"{place}: has text in column {stray + 1}, which has no name. Expected none. Name the column.")
    return {name: text for name, text in zip(header, texts, strict=False) if name}
