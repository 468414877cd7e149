"""Losses of workers that Tune does not know: it ends the whole run, where one trial was hit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ray.air.execution._internal.actor_manager import RayActorManager
from ray.exceptions import RayActorError, RayError, RayTaskError

__all__ = ["losses_known"]


@contextmanager
def losses_known() -> Iterator[None]:
    """For the length of the block, every error of Ray's about a worker's call counts as the worker's death.

    Tune expects RayActorError and RayTaskError; others (OutOfMemoryError of a node's memory monitor,
    WorkerCrashedError, lost objects) leave its loop as a RuntimeError (Ray 2.60).
    """
    before = RayActorManager._actor_task_failed

    def failed(self: RayActorManager, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, RayError) and not isinstance(exception, RayActorError | RayTaskError):
            exception = RayActorError(error_msg=f"{type(exception).__name__}: {exception}")
        before(self, tracked_actor_task=tracked_actor_task, exception=exception)

    RayActorManager._actor_task_failed = failed  # type: ignore[method-assign]
    try:
        yield
    finally:
        RayActorManager._actor_task_failed = before  # type: ignore[method-assign]
