"""A worker that Ray kills for its node's memory is one worker lost, not the end of the run."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.exceptions import OutOfMemoryError, RayActorError, WorkerCrashedError

from autoprune.executors.ray_losses import losses_known

SAID = "1 worker(s) were killed due to the node running low on memory."


def told(error: Exception) -> list[Exception]:
    """What the actor's and the task's callbacks hear of an error in a call of an actor."""
    heard: list[Exception] = []
    actor = SimpleNamespace(actor_id="a", _on_error=lambda _, exception: heard.append(exception))
    manager: Any = SimpleNamespace(_failed_actor_ids=set(), _cleanup_actor=lambda tracked_actor: None)
    task: Any = SimpleNamespace(_tracked_actor=actor, _on_error=actor._on_error)
    RayActorManager._actor_task_failed(manager, tracked_actor_task=task, exception=error)
    return heard


@pytest.mark.parametrize("error", [OutOfMemoryError(SAID), WorkerCrashedError()])
def test_other_errors_of_rays_count_as_the_workers_death(error: Exception) -> None:
    with losses_known():
        first, second = told(error)
    assert isinstance(first, RayActorError)
    assert first is second
    assert str(error) in str(first)
    with pytest.raises(RuntimeError, match="unexpected"):  # Ray's own way: when this fails, the module can go
        told(error)


def test_what_is_no_error_of_rays_still_ends_the_run() -> None:
    with losses_known(), pytest.raises(RuntimeError, match="unexpected"):
        told(ValueError("a defect"))
