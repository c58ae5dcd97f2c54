"""What every route is given: the workspace, its queue and its helper processes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request

from instil.studio.jobs.queue import Queue
from instil.studio.problems import PageProblem
from instil.studio.workers.commands import Commands
from instil.studio.workers.process import Workers
from instil.studio.workspace import OutsideError, inside, leads_out


@dataclass(frozen=True, slots=True)
class Studio:
    """The open workspace.

    Attributes:
        root: Its folder, resolved.
        queue: Its jobs.
        workers: Its helper processes for data.
        commands: Its warm process, which runs commands at once.
    """

    root: Path
    queue: Queue
    workers: Workers
    commands: Commands

    def path(self, text: str) -> Path:
        """Return the file or folder that a path of a request means. It need not exist.

        Raises:
            PageProblem: With status 404, if it leads out of the workspace.
        """
        try:
            return inside(self.root, text)
        except OutsideError:
            raise PageProblem(404, "problems.no_file", path=text) from None

    def existing(self, text: str) -> Path:
        """Return the file or folder that a path of a request means.

        Raises:
            PageProblem: With status 404, if it leads out of the workspace or is not there.
        """
        path = self.path(text)
        if not path.exists():
            raise PageProblem(404, "problems.no_file", path=text)
        return path

    def whole(self, text: str) -> Path:
        """Return the file or folder that a path of a request means, of which all lies in the workspace.

        For data and models: a process reads all of a folder, links in it too.

        Raises:
            PageProblem: With status 404, as `existing`; or if a link in the folder leads out of the workspace.
        """
        path = self.existing(text)
        if path.is_dir() and leads_out(self.root, path):
            raise PageProblem(404, "data.links_out", path=text)
        return path


def studio_of(request: Request) -> Studio:
    """Return the open workspace of a request."""
    studio: Studio = request.app.state.studio
    return studio
