"""`instil.train`: train from Python with a recipe, settings, and data from anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal, overload

from instil.api.arguments import check_type
from instil.api.recipes import AnyRecipe, recipe_of
from instil.errors import RecipeError

if TYPE_CHECKING:
    from instil.training.events import Event
    from instil.training.records.run_folder import Run


@overload
def train(
    recipe: AnyRecipe = None,
    *,
    data: Any = None,
    resume: bool = False,
    quiet: bool = False,
    follow: Literal[False] = False,
    **settings: Any,
) -> Run: ...


@overload
def train(
    recipe: AnyRecipe = None,
    *,
    data: Any = None,
    resume: bool = False,
    quiet: bool = False,
    follow: Literal[True],
    **settings: Any,
) -> Iterator[Event]: ...


def train(
    recipe: AnyRecipe = None,
    *,
    data: Any = None,
    resume: bool = False,
    quiet: bool = False,
    follow: bool = False,
    **settings: Any,
) -> Run | Iterator[Event]:
    """Train and write a run folder.

    With ``follow=True``, the steps and evaluations are yielded while the run goes on: `StepTaken`, `Evaluated`, and
    `Ended` with the run. Leaving the loop early stops the run as Ctrl-C does: it finishes its step and saves.

    Args:
        recipe: Data or a recipe. Data is a path, a Hub id, a list of paths and tables, or rows: a list of dicts or
            `Conversation`s, a `datasets.Dataset`, a generator, a pandas frame. A recipe is a `Recipe`, the path of its
            file, the name of one that ships, or a mapping of settings. None for the settings below alone.
        data: Replaces the recipe's `data.sources`: data as above. ``data.heldout`` may be rows too.
        resume: Continue the run in the recipe's output folder from its latest checkpoint, or start it.
        quiet: Print nothing.
        follow: Return an iterator over what happens, instead of the run at its end.
        **settings: Settings that replace the recipe's: ``model="demo"``, ``adapter="lora"``, ``training={"max_steps": 5}``, or with dots:
            ``**{"optimizer.lr": 1e-4}``.

    Returns:
        The run, or the iterator. The run is not `finished` if Ctrl-C or SIGTERM stopped it; ``resume=True`` continues.

    Raises:
        InstilError: If settings, data, template or model are wrong. Nothing has been written to the run folder then.
        RunError: If the run folder exists and `resume` is false, or the recipe or the rows are not those of the run.

    Example:
        >>> rows = [{"question": f"{n}+1?", "answer": str(n + 1)} for n in range(40)]
        >>> for event in train(data=rows, follow=True, **{"training.max_steps": 5}):  # doctest: +SKIP
        ...     print(event)
    """
    for name, value in (("resume", resume), ("quiet", quiet), ("follow", follow)):
        check_type(name, value, bool, RecipeError, expected="True or False")
    # Why: torch takes seconds to import, and a wrong recipe is reported before that.
    resolved = recipe_of(recipe, data=data, settings=settings, needs_data=not resume)
    if resolved.sweep:
        raise RecipeError(
            f"sweep: the recipe is a sweep over {', '.join(resolved.sweep)}. Expected one run. "
            "Call instil.sweep with it, which trains them all."
        )
    from instil.training import run

    if follow:
        return run.follow(resolved, resume=resume, quiet=quiet)
    return run.train(resolved, resume=resume, quiet=quiet)
