"""What ``audit`` and ``compare`` share: they train candidates, and go on where they stopped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from autoprune.cli.failures import Interrupted
from autoprune.cli.output import message
from autoprune.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from pathlib import Path

    from autoprune.protocols import Progress

__all__ = ["EpochsOption", "ExecutorOption", "RecipeOption", "recipe", "said", "training"]

EpochsOption = Annotated[
    int | None, typer.Option("--epochs", help="Epochs of the baseline's recipe here.", show_default=False)
]
RecipeOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting of the recipe.", show_default=False),
]
ExecutorOption = Annotated[
    str | None, typer.Option("--executor", metavar="ray|serial", help="[default: the search's]", show_default=False)
]
_EXECUTORS = ("ray", "serial")


class _Runs(Protocol):
    @property
    def ran(self) -> int: ...
    @property
    def missing(self) -> int: ...
    @property
    def output(self) -> Path: ...


def recipe(overrides: Sequence[str] | None, epochs: int | None) -> list[str]:
    """Settings of the recipe, ``--epochs`` among them."""
    return [*(overrides or ()), *([] if epochs is None else [f"epochs={epochs}"])]


@contextmanager
def training(executor: str | None, *, quiet: bool) -> Iterator[Progress]:
    """What is going on is shown meanwhile; Ctrl-C says how to go on. Raises ConfigError for an unknown executor."""
    from autoprune.cli.progress import make_progress

    if executor not in (None, *_EXECUTORS):
        raise ConfigError(f"there is no executor {executor!r}.", did_you_mean(executor, _EXECUTORS))
    try:
        with make_progress(quiet=quiet) as progress:
            yield progress
    except KeyboardInterrupt:
        raise Interrupted("the same command goes on from there.") from None


def said(result: _Runs, *, quiet: bool) -> None:
    """Where the files are, and what is left to do."""
    message(f"{result.ran} runs were trained, the others were stored; files are in {result.output}/", quiet=quiet)
    if result.missing:
        message(f"{result.missing} runs are missing; the same command tries them again.", quiet=quiet)
