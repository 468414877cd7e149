"""Trials as Ray Tune workers, on this machine or on a cluster."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from types import FrameType
from typing import Any

from ray import tune
from ray.tune.error import TuneError

from autoprune.config.executors import RayExecutorConfig
from autoprune.executors.ray_capacity import Room, Share, slot_count, trial_share
from autoprune.executors.ray_client import client_losses_in_words, connected_through_client, make_tuner
from autoprune.executors.ray_cluster import connected
from autoprune.executors.ray_head import head_watched
from autoprune.executors.ray_losses import losses_known
from autoprune.executors.ray_slots import STOP_SECONDS, NoOutput, SlotScheduler, SlotSearcher
from autoprune.executors.ray_watchdog import START_SECONDS
from autoprune.executors.ray_worker import SlotTrainable
from autoprune.protocols import AskTell, Evaluator

__all__ = ["RayTuneExecutor"]


class RayTuneExecutor:
    """Runs trials in long-lived Ray Tune workers, each with an evaluator that is built once.

    ``assets`` is plain data (arrays, mappings, configuration). It is put into Ray's object store once and shared by
    the workers of a node: arrays arrive there read-only and without a copy. ``make_evaluator(assets)`` must be
    importable on the workers (a function at the top of a module).

    An attempt at a trial ends by accident when the evaluator raises, when its process dies, or when it takes longer
    than ``trial_seconds``, hanging or not; the process is then replaced (kept, if what was raised is an
    EvaluationError), or when its process holds more than ``trial_memory`` bytes. An evaluator is built in
    ``start_seconds``. The session decides on retries. ``training``: trials train, and are given what
    ``executor.training`` says.
    """

    def __init__(
        self,
        config: RayExecutorConfig,
        assets: object,
        make_evaluator: Callable[[Any], Evaluator],
        trial_seconds: float,
        *,
        training: bool = False,
        trial_memory: float = math.inf,
        start_seconds: float = START_SECONDS,
    ) -> None:
        self._config = config
        self._assets = assets
        self._make_evaluator = make_evaluator
        self._trial_seconds = trial_seconds
        self._trial_memory = trial_memory
        self._start_seconds = start_seconds
        self._training = training

    def run(self, session: AskTell) -> None:
        """Return when the session is done.

        SIGINT, SIGTERM and SIGHUP stop the session; running trials get eight seconds, and none after a second signal.
        Those that do not are left to be run again on resume. It then returns, as it does when the session is done.

        Raises ConfigError (no cluster, or not one trial fits it), SearchAborted (no worker can be started), and what
        the session raises. Ray is shut down before that, if it was started here, and its files are removed. When the
        cluster's head is lost, the process ends with words, after closing the session: Ray would end it without.
        """
        if session.done:
            return
        scheduler = SlotScheduler(session, self._trial_seconds, self._trial_memory)
        with (
            _signals(scheduler),
            losses_known(),
            connected(self._config, training=self._training) as folder,
            client_losses_in_words(),
        ):
            slot_count(self._config, training=self._training)  # raises where no trial fits
            share = trial_share(self._config, training=self._training)
            scheduler.room = Room(self._config, share)
            try:
                with nullcontext() if connected_through_client() else head_watched(partial(_close, session)):
                    self._tuner(scheduler, share, folder, session.wants_estimates).fit()
            except TuneError as error:
                scheduler.error = scheduler.error or error
            if scheduler.error is not None:
                raise scheduler.error

    def _tuner(self, scheduler: SlotScheduler, share: Share, folder: str, estimates: bool) -> Any:
        trainable = tune.with_parameters(SlotTrainable, assets=self._assets, make_evaluator=self._make_evaluator)
        return make_tuner(
            tune.with_resources(trainable, tune.PlacementGroupFactory([dict(share.needs)])),
            param_space={
                "cpus": share.cpus,
                "hides_gpus": share.hides_gpus,
                "requires_gpu": share.requires_gpu,
                "has_gpu": "GPU" in share.needs,
                "trial_seconds": self._trial_seconds,
                "trial_memory": self._trial_memory,
                "start_seconds": self._start_seconds,
                "estimates": estimates,
            },
            tune_config=tune.TuneConfig(
                search_alg=SlotSearcher(scheduler),
                scheduler=scheduler,
                num_samples=-1,
                trial_name_creator=lambda trial: f"slot_{trial.trial_id}",
                trial_dirname_creator=lambda trial: f"slot_{trial.trial_id}",
            ),
            run_config=tune.RunConfig(
                name="autoprune",
                storage_path=folder,
                verbose=0,
                callbacks=[NoOutput()],
                # Tune's retries would run an accident again behind the session's back.
                failure_config=tune.FailureConfig(max_failures=0),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        )


def _close(session: AskTell) -> None:
    """As well as it can be done from another thread: the main one hangs in Ray."""
    session.stop("the cluster's head was lost")
    close = getattr(session, "close", None)
    if close is not None:
        close()


@contextmanager
def _signals(scheduler: SlotScheduler) -> Iterator[None]:
    """SIGINT, SIGTERM (a node that is taken away) and SIGHUP (a terminal that is closed) stop the session in good
    order; Ray is never interrupted half started, which leaves orphans.

    In another thread than the main one: no handlers.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    seen: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        reason = "interrupted" if number == signal.SIGINT else "terminated"
        scheduler.stop(reason, 0.0 if seen else STOP_SECONDS)
        seen.append(number)

    stopping = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # under nohup it is to go on
        stopping.append(signal.SIGHUP)
    # Tune installs a handler of its own for SIGUSR1 and leaves it there.
    before = {number: signal.getsignal(number) for number in (*stopping, signal.SIGUSR1)}
    for number in stopping:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
