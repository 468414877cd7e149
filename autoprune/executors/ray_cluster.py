"""Joining or starting a Ray cluster, quietly, and leaving nothing behind."""

from __future__ import annotations

import logging
import math
import os
import secrets
import signal
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import ray
from ray._private import utils, worker

from autoprune.config.schema import RayExecutorConfig
from autoprune.errors import ConfigError
from autoprune.executors.scratch import scratch_folder

__all__ = ["connected", "slot_count"]

_OBJECT_STORE_BYTES = 2**30

_TOKEN = secrets.token_hex(32)
"""One for the life of the process: Ray keeps the first that it sees."""

_ADDRESS_VARIABLE = "AUTOPRUNE_RAY_ADDRESS"
"""Set for jobs of a cluster, and by scripts that start one: a search is then resumed anywhere as it is recorded."""

_QUIET = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_THRESHOLD_S": "3600",
}
"""No files, no output, no handlers of Tune's own: the session's store is the only record."""


@contextmanager
def connected(config: RayExecutorConfig) -> Iterator[str]:
    """A Ray connection for the length of the block; yields a scratch folder that goes away with it.

    A connection that the process already has is used as it is and stays open. Without one, ``config.address`` is
    joined (without one, that of ``$AUTOPRUNE_RAY_ADDRESS``, which no record keeps), or a local cluster is started.

    Raises ConfigError when the cluster at ``config.address`` cannot be joined.
    """
    with ExitStack() as stack:
        stack.enter_context(_environment(_QUIET))
        stack.enter_context(_silence())
        folder = stack.enter_context(scratch_folder())
        if not ray.is_initialized():
            address = config.address or os.environ.get(_ADDRESS_VARIABLE)
            if address is None:
                stack.enter_context(_environment(_local_token()))
            stack.callback(_take_sigterm_back)
            stack.callback(ray.shutdown)
            with _own_sigterm():
                _join(address) if address else _start(folder)
        yield folder


def slot_count(config: RayExecutorConfig) -> int:
    """How many trials run at once: ``max_parallel``, and never more than the cluster holds now.

    Raises ConfigError when not even one trial fits.
    """
    resources = ray.cluster_resources()
    needs = {"CPU": config.cpus_per_trial, "GPU": config.gpus_per_trial}
    room = {name: resources.get(name, 0.0) / need for name, need in needs.items() if need > 0}
    name = min(room, key=lambda item: room[item])
    if room[name] < 1:
        key = f"executor.{name.lower()}s_per_trial"
        raise ConfigError(
            f"{key} is {needs[name]:g}, but the Ray cluster has {resources.get(name, 0.0):g} {name}s.",
            hint=f"Lower {key}, or join a cluster that has more (executor.address).",
        )
    fits = math.floor(room[name] + 1e-9)
    return fits if config.max_parallel == "auto" else min(config.max_parallel, fits)


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


def _join(address: str) -> None:
    if address.startswith("ray://"):
        raise ConfigError(
            f"executor.address {address!r} names a Ray Client server: Tune would run there, away from the store.",
            hint="Run autoprune on a node of the cluster (ray job submit) with address: auto, or give host:port.",
        )
    try:
        ray.init(address=address, log_to_driver=False, configure_logging=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise ConfigError(
            f"cannot join the Ray cluster at executor.address {address!r}: {first}",
            hint="Check 'ray status' there, and that RAY_AUTH_TOKEN is the same here; or leave address out.",
        ) from error


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
    logger.setLevel(logging.CRITICAL + 1)
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
