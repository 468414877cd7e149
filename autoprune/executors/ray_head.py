"""Notices that a cluster's head is gone: Ray's calls then block, and after a minute it ends the process wordlessly."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import ray

from autoprune.errors import SearchAborted

__all__ = ["head_watched"]

_LOOK_SECONDS = 3.0
_PATIENCE = 40.0
"""Silence after which the head is given up: Ray itself ends the process after 60 s."""
_CLOSE_SECONDS = 10.0


@contextmanager
def head_watched(close: Callable[[], None]) -> Iterator[None]:
    """While the block runs, see that the head of the connected cluster can be reached.

    When it was silent for 40 s, ``close`` is called and the process ends with the exit code of SearchAborted: the
    main thread, which may wait inside Ray, cannot be reached any more.
    """
    address = ray.get_runtime_context().gcs_address
    stopped = threading.Event()
    thread = threading.Thread(target=_watch, args=(address, close, stopped), daemon=True, name="head of the cluster")
    thread.start()
    try:
        yield
    finally:
        stopped.set()


def _watch(address: str, close: Callable[[], None], stopped: threading.Event) -> None:
    heard = time.monotonic()
    while not stopped.wait(_LOOK_SECONDS):
        if _answers(address):
            heard = time.monotonic()
        elif time.monotonic() - heard > _PATIENCE and not stopped.is_set():
            _leave(address, close)


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with contextlib.suppress(OSError), socket.create_connection((host.strip("[]"), int(port)), timeout=_LOOK_SECONDS):
        return True
    return False


def _leave(address: str, close: Callable[[], None]) -> None:
    closing = threading.Thread(target=close, daemon=True)
    closing.start()
    closing.join(_CLOSE_SECONDS)
    error = SearchAborted(
        f"the head of the Ray cluster at {address} has not answered for {_PATIENCE:g} s.",
        "What was measured is kept. Start a cluster and run the same command again, with its address: it goes on.",
    )
    sys.stderr.write(f"error: {error.message}\nhint: {error.hint}\n")
    sys.stderr.flush()
    os._exit(error.exit_code)
