"""Joining a running Ray cluster, and what went wrong in words."""

from __future__ import annotations

import importlib.util
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray._raylet import Config  # type: ignore[attr-defined]

from autoprune.errors import ConfigError

__all__ = ["is_client", "join", "require_client"]

_ANSWER_SECONDS = 5.0
_IMPATIENT = {"RAY_gcs_server_port_wait_time_s": "2"}
_VERSIONS = re.compile(r"Ray: (\S+)\s+Python: (\S+)")


def is_client(address: str | None) -> bool:
    """Whether the address is that of a Ray Client server: this process then is no part of the cluster."""
    return address is not None and address.startswith("ray://")


def require_client() -> None:
    """Raises ConfigError where Ray Client is not installed."""
    if importlib.util.find_spec("grpc") is None:
        raise ConfigError(
            "an executor.address that begins with ray:// needs Ray Client, which is not installed here.",
            "pip install 'ray[client]'; or give host:port from a machine of the cluster.",
        )


def join(address: str, runtime_env: dict[str, Any] | None = None) -> None:
    """Connect this process to the cluster. Raises ConfigError where that cannot be, with what to do."""
    _require_answer(address)
    settings: dict[str, Any] = {} if is_client(address) else {"log_to_driver": False, "configure_logging": False}
    try:
        with _impatience():
            ray.init(address=address, runtime_env=runtime_env, **settings)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise _in_words(address, error) from error


def _require_answer(address: str) -> None:
    """Ray tries an address where nothing listens for minutes: look first. Raises ConfigError."""
    if address == "auto":
        return
    host, _, port = address.removeprefix("ray://").partition("/")[0].rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_SECONDS).close()
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        raise ConfigError(
            f"nothing answers at executor.address {address!r}: {reason}.",
            "Check host and port ('ray status' there shows whether Ray runs), firewalls between; or leave address out.",
        ) from None


@contextmanager
def _impatience() -> Iterator[None]:
    """Ray asks a head that refuses it twenty times, and prints each answer: twice is enough. And it reads its
    environment when it is imported: a token that was set since then is to be sent all the same."""
    before = {name: os.environ.get(name) for name in _IMPATIENT}
    os.environ.update({**_IMPATIENT, **({"RAY_AUTH_MODE": "token"} if _has_token() else {})})
    Config.initialize("")
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _has_token() -> bool:
    """Somebody set a token on purpose; the mode alone would then be forgotten."""
    return "RAY_AUTH_MODE" not in os.environ and bool({"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(os.environ))


def _in_words(address: str, error: BaseException) -> ConfigError:
    texts = []
    cause: BaseException | None = error
    while cause is not None:
        texts.append(str(cause))
        cause = cause.__cause__ or cause.__context__
    text = "\n".join(texts)
    if "Version mismatch" in text and len(versions := _VERSIONS.findall(text)) >= 2:
        (ray_there, python_there), (ray_here, python_here) = versions[:2]
        return ConfigError(
            f"the Ray cluster at executor.address {address!r} runs Ray {ray_there} on Python {python_there}; "
            f"this process has Ray {ray_here} on Python {python_here}. They must be the same.",
            f"pip install 'ray=={ray_there}' in Python {python_there} here, or autoprune submit --address ... there.",
        )
    if "Unauthenticated" in text or "InvalidAuthToken" in text or "uthentication" in text:
        return ConfigError(
            f"the Ray cluster at executor.address {address!r} asks for a token, and got none or a wrong one.",
            "Set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN to what 'ray get-auth-token' prints on its head.",
        )
    lines = str(error).strip().splitlines()
    return ConfigError(
        f"cannot join the Ray cluster at executor.address {address!r}: {lines[0] if lines else type(error).__name__}",
        hint="Check 'ray status' there, and that RAY_AUTH_TOKEN is the same here; or leave address out.",
    )
