"""Tune's loop in this process while trials run behind a Ray Client server, as the store is here.

``tune.Tuner`` would move its loop to the server. Its inner half does not, when told so; what it then lacks is the
folder of a Ray session, since this process belongs to no node (Ray 2.60).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray import tune
from ray.train._internal import storage
from ray.tune.impl.tuner_internal import TunerInternal

from autoprune.errors import AutopruneError, SearchAborted

__all__ = ["client_losses_in_words", "connected_through_client", "make_tuner", "quiet_client"]


def connected_through_client() -> bool:
    return bool(ray.util.client.ray.is_connected())


def make_tuner(trainable: Any, **settings: Any) -> Any:
    """A tuner whose ``fit`` runs here, whichever way this process is connected."""
    if connected_through_client():
        return TunerInternal(trainable=trainable, _tuner_kwargs={"_remote": False}, **settings)
    return tune.Tuner(trainable, **settings)


@contextmanager
def client_losses_in_words() -> Iterator[None]:
    """Raises SearchAborted when the connection of a client is lost for good in the block: Ray then raises things of
    several kinds, the last of them while it clears up."""
    client = connected_through_client()
    try:
        yield
    except AutopruneError:
        raise
    except Exception as error:
        if client and (isinstance(error, ConnectionError) or not connected_through_client()):
            raise SearchAborted(
                "the connection to the Ray cluster was lost.",
                "What was measured is stored; the same command goes on, and runs again what was running.",
            ) from error
        raise


@contextmanager
def quiet_client(folder: str) -> Iterator[None]:
    """For the length of a client's connection: Tune keeps its files in ``folder``, and nothing that the server prints
    is printed here."""
    from ray.util.client.logsclient import LogstreamClient

    before = storage._get_ray_train_session_dir, LogstreamClient.stdstream, LogstreamClient.log
    storage._get_ray_train_session_dir = lambda: folder
    LogstreamClient.stdstream = LogstreamClient.log = lambda *_, **__: None  # type: ignore[method-assign]
    try:
        yield
    finally:
        storage._get_ray_train_session_dir = before[0]
        LogstreamClient.stdstream, LogstreamClient.log = before[1:]  # type: ignore[method-assign]
