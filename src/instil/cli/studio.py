"""``instil studio``: data, recipe, runs and chat in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from instil.studio.settings import STUDIO, StudioSettings


def studio(folder: Path = Path(), *, opening: Annotated[StudioSettings, Parameter(name="*")] = STUDIO) -> None:
    """Open the studio of a folder in a browser: its data, runs and jobs. It prints the address, which has a token.

    Work that is started there goes on when the studio ends, and is found again when it starts.

    Args:
        folder: The workspace: data, recipes and runs are looked for in it, and pages see nothing outside of it.
        opening: Address and key.
    """
    from instil.screen import hide_work
    from instil.studio.server import open_studio
    from instil.studio.settings import check_settings

    opening = check_settings(opening)
    hide_work()  # the server prints lines
    open_studio(folder, opening)
