"""What a page answers instead of itself: a status, and a text in the reader's language."""

from __future__ import annotations


class PageProblem(Exception):
    """A request that cannot be answered with its page.

    Attributes:
        status: HTTP status.
        key: Key of the text, such as ``problems.no_job``.
        values: Values of the text.
    """

    def __init__(self, status: int, key: str, **values: object) -> None:
        super().__init__(key)
        self.status, self.key, self.values = status, key, values
