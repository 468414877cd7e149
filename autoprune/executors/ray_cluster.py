"""Joining or starting a Ray cluster, quietly, and leaving nothing behind."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import ray
from ray._private import utils, worker

from autoprune.config.executors import RayExecutorConfig
from autoprune.errors import ConfigError
from autoprune.executors.ray_capacity import slot_count, trial_share
from autoprune.executors.ray_client import connected_through_client, quiet_client
from autoprune.executors.ray_joining import is_client, join, require_client
from autoprune.executors.ray_probe import check_versions, package_to_ship, probe
from autoprune.executors.scratch import scratch_folder

__all__ = ["connected", "slot_count"]

_OBJECT_STORE_BYTES = 2**30
_SILENT = logging.CRITICAL + 1

_TOKEN = secrets.token_hex(32)
"""One for the life of the process: Ray keeps the first that it sees."""

_ADDRESS_VARIABLE = "AUTOPRUNE_RAY_ADDRESS"
"""Set for jobs of a cluster (``api.submitting``) and by scripts that start one (``launch/cluster``): the recorded
configuration then names no cluster, and the search is resumed anywhere."""

_GROWING_SECONDS = 60.0
"""Its worker nodes may join after the head took the job."""

_QUIET = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    "TUNE_MAX_PENDING_TRIALS_PG": "1000",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_THRESHOLD_S": "3600",
}
"""No files, no output, no handlers of Tune's own: the session's store is the only record. And workers start side by
side: Tune would start one after another, since it cannot know how many there will be."""


@contextmanager
def connected(config: RayExecutorConfig, *, training: bool = False) -> Iterator[str]:
    """A Ray connection for the length of the block; yields a scratch folder that goes away with it.

    A connection that the process already has is used as it is and stays open. Without one, ``config.address`` is
    joined, without one that of ``$AUTOPRUNE_RAY_ADDRESS``, or a local cluster is started. Nodes of a cluster that have
    another autoprune than this process, or none, are sent this one; ``training`` says for which kind of trials.

    Raises ConfigError when the cluster at ``config.address`` cannot be joined, or its nodes lack what a trial needs.
    """
    address = config.address or os.environ.get(_ADDRESS_VARIABLE) or None
    client = connected_through_client() or (is_client(address) and not ray.is_initialized())
    if client:
        require_client()
    with ExitStack() as stack:
        stack.enter_context(_environment(_QUIET))
        stack.enter_context(_silence())
        folder = stack.enter_context(scratch_folder())
        if client:
            stack.enter_context(quiet_client(folder))
        if not ray.is_initialized():
            if address is None:
                stack.enter_context(_environment(_local_token()))
            stack.callback(_shut_down)
            with _own_sigterm():
                if address is None:
                    _start(folder)
                else:
                    _join(config, address, training)
            logging.getLogger("ray").setLevel(_SILENT)  # Ray Client sets it again
        yield folder


def _join(config: RayExecutorConfig, address: str, training: bool) -> None:
    """Once to look at the nodes; again, with our own package, where they lack it."""
    join(address)
    _await_room(config, training)
    found = probe(trial_share(config, training=training).needs)
    check_versions(found)
    shipped = package_to_ship(found)
    if shipped is not None:
        ray.shutdown()
        join(address, shipped)


def _await_room(config: RayExecutorConfig, training: bool) -> None:
    """Raise ConfigError when no trial fits the cluster; one that was started for this search may still be growing."""
    deadline = time.monotonic() + (_GROWING_SECONDS if os.environ.get(_ADDRESS_VARIABLE) else 0.0)
    while True:
        try:
            slot_count(config, training=training)
            return
        except ConfigError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.5)


def _start(folder: str) -> None:
    ray.init(
        address="local",
        include_dashboard=False,
        log_to_driver=False,
        configure_logging=False,
        object_store_memory=_OBJECT_STORE_BYTES,
        _temp_dir=folder,
        # Idle workers started ahead lack Tune's runtime environment: they would cost a second and never be used.
        _system_config={"enable_worker_prestart": False, "prestart_worker_first_driver": False},
    )


def _local_token() -> dict[str, str]:
    """A token for the local cluster where Ray could not write its own to ~/.ray, as in many containers."""
    home = Path.home()
    writable = next((folder for folder in (home / ".ray", home) if folder.exists()), None)
    if "RAY_AUTH_TOKEN" in os.environ or (writable is not None and os.access(writable, os.W_OK)):
        return {}
    return {"RAY_AUTH_TOKEN": _TOKEN}


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Keep ray.init from taking SIGTERM: its handlers exit in the midst of the start, or abort with a C++ stack, and
    leave processes behind."""
    install = utils.set_sigterm_handler
    utils.set_sigterm_handler = lambda handler: None
    try:
        yield
    finally:
        utils.set_sigterm_handler = install
        _take_sigterm_back()


def _shut_down() -> None:
    """Leave the cluster. A SIGTERM that comes when Ray's core has gone and its processes have not would orphan them."""
    node = getattr(worker, "_global_node", None)
    if node is not None:
        kill = node.kill_all_processes

        def kill_all_processes(*arguments: Any, **options: Any) -> None:
            _take_sigterm_back()
            kill(*arguments, **options)

        node.kill_all_processes = kill_all_processes
    ray.shutdown()
    _take_sigterm_back()


def _take_sigterm_back() -> None:
    """Ray's core puts a handler below Python's, and the system's default when it leaves: install Python's again."""
    handler = signal.getsignal(signal.SIGTERM)
    if handler is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _silence() -> Iterator[None]:
    """Ray's own log and warnings off the terminal: a progress bar is drawn there."""
    logger = logging.getLogger("ray")
    level = logger.level
    logger.setLevel(_SILENT)
    # "(raylet) A worker died..." is printed by a thread of Ray's whatever log_to_driver says; this is its only switch.
    printing = getattr(worker, "_worker_logs_enabled", True)
    worker._worker_logs_enabled = False
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"ray(\.|$)")
            yield
    finally:
        logger.setLevel(level)
        worker._worker_logs_enabled = printing
