"""One training on the cluster whose weights come back: for a model that is exported, not only measured."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError

from autoprune.config.executors import RayExecutorConfig
from autoprune.errors import AutopruneError, SearchAborted
from autoprune.executors.ray_capacity import slot_count, trial_share
from autoprune.executors.ray_cluster import connected
from autoprune.executors.ray_worker import describe, require_gpu
from autoprune.types import Candidate, Measurement

__all__ = ["RemoteTraining", "remote_training"]


class _Trainer:
    """What runs on a node; made with the options of ``trial_share``."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._threads = max(1, int(settings["cpus"]))
        os.environ["OMP_NUM_THREADS"] = str(self._threads)
        if settings["hides_gpus"]:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        self._requires_gpu = settings["requires_gpu"]

    def begin(self, assets: Any, make: Callable[[Any], Any], widths: Mapping[str, int]) -> str:
        self._evaluator = make(assets)
        node = ray.get_runtime_context().get_node_id()[:8]
        if self._requires_gpu:
            require_gpu(node)
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(self._threads)
        self._stream = iter(self._evaluator.evaluate(Candidate(widths)))
        return f"{ray.util.get_node_ip_address()}/{node}"

    def next(self) -> Measurement | None:
        return next(self._stream, None)

    def call(self, function: Callable[[Any], Any]) -> Any:
        return function(self._evaluator)


class RemoteTraining:
    """A training that has begun on ``node``."""

    def __init__(self, actor: Any, node: str) -> None:
        self._actor = actor
        self.node = node

    def measurements(self) -> Iterator[Measurement]:
        """As the evaluator gives them. Raises SearchAborted when its process or its node is lost."""
        while (measurement := _answer(self._actor.next.remote())) is not None:
            yield measurement

    def result(self, function: Callable[[Any], Any]) -> Any:
        """What ``function(evaluator)`` returns there; it must be importable."""
        return _answer(self._actor.call.remote(function))


@contextmanager
def remote_training(
    config: RayExecutorConfig, assets: object, make: Callable[[Any], Any], candidate: Candidate
) -> Iterator[RemoteTraining]:
    """Train a candidate by ``make(assets)`` on the cluster, with what ``executor.training`` gives.

    Raises ConfigError (no cluster, or no training fits it) and SearchAborted (it could not begin).
    """
    with connected(config, training=True):
        slot_count(config, training=True)
        share = trial_share(config, training=True)
        needs = dict(share.needs)
        actor: Any = (
            ray.remote(_Trainer)
            .options(num_cpus=needs.pop("CPU"), num_gpus=needs.pop("GPU", 0), resources=needs, max_restarts=0)
            .remote({"cpus": share.cpus, "hides_gpus": share.hides_gpus, "requires_gpu": share.requires_gpu})
        )
        sent = ray.put(assets)
        try:
            yield RemoteTraining(actor, _answer(actor.begin.remote(sent, make, dict(candidate.widths))))
        finally:
            ray.kill(actor)


def _answer(reference: Any) -> Any:
    try:
        return ray.get(reference)
    except RayTaskError as error:
        if isinstance(error.cause, AutopruneError):
            raise error.cause from None
        raise SearchAborted(f"the training failed on the cluster: {describe(error.cause)}") from None
    except (RayActorError, ConnectionError) as error:
        raise SearchAborted(
            f"the process or the node that trained is lost: {describe(error)}",
            "Run the same command again: it begins anew, or goes on where the same node saved it.",
        ) from None
