"""Starting a server, and ending it in good order."""

from __future__ import annotations

import logging
import socket
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI

from autoprune.api.stores import open_at, store_url
from autoprune.api.submitting import job_server
from autoprune.errors import ConfigError, without_password
from autoprune.service.app import create_app
from autoprune.service.connections import Connection, Waiting
from autoprune.service.context import Context
from autoprune.service.settings import Settings
from autoprune.service.tokens import Tokens, load_tokens, make_token_file

__all__ = ["Server", "listen", "run"]

_SWITCH_SECONDS = 0.0005


def run(
    *,
    store: str | None,
    host: str,
    port: int,
    data_root: str,
    token_file: str | None,
    allow_code: bool,
    allowed_hosts: Sequence[str],
    parallel: int,
    output: str,
    ray_address: str | None = None,
) -> None:
    """Serve until Ctrl-C or SIGTERM.

    Raises ConfigError (the options, the address), StoreError when the store cannot be used at all.
    """
    url = store_url(store)
    settings = Settings(
        store=url,
        host=host,
        port=port,
        data_root=Path(data_root).resolve(),
        output=Path(output).resolve(),
        spaces=Path("search_spaces").resolve(),
        tokens=_tokens(token_file),
        allow_code=allow_code,
        allowed_hosts=tuple(allowed_hosts),
        parallel=parallel,
        ray_address=None if ray_address is None else job_server(ray_address),
    )
    open_at(url).close()  # made where there is none; a newer one is refused now
    listening = listen(host, port)
    _welcome(settings, listening, token_file)
    Server(create_app(settings)).run(sockets=[listening])


class Server(uvicorn.Server):
    """Serves an application of :func:`create_app`, as ``autoprune serve`` does."""

    def __init__(self, app: FastAPI, **changes: Any) -> None:
        """``changes``: other settings of uvicorn."""
        context: Context = app.state.context
        limits = context.settings.limits
        settings: dict[str, Any] = {
            "http": partial(Connection, Waiting(limits)),
            "limit_concurrency": limits.connections,
            "log_level": "warning",
            "access_log": False,
            "server_header": False,
            "timeout_keep_alive": 15,
            "timeout_graceful_shutdown": 5,
            "h11_max_incomplete_event_size": 64 * 1024,
            "ws": "none",
            "proxy_headers": False,
        }
        super().__init__(uvicorn.Config(app, **{**settings, **changes}))
        self._closing = context.closing

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        # A thread that computes hands over after 5 ms by default, and an answer changes threads ten times.
        before = sys.getswitchinterval()
        sys.setswitchinterval(_SWITCH_SECONDS)
        try:
            super().run(sockets)
        finally:
            sys.setswitchinterval(before)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # Event streams end when the server is asked to end, instead of waiting for their clients.
        self._closing.set()
        super().handle_exit(sig, frame)


def _tokens(token_file: str | None) -> Tokens:
    if token_file is None:
        return Tokens()
    path = Path(token_file)
    if not path.exists():
        make_token_file(path)
        _say(f"made {path} with a token for reading and one for launching.")
    return load_tokens(path)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises ConfigError when the address cannot be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        made = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigError(f"--host {host!r} is no address of this machine: {error.strerror}.") from None
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(128)
    except OSError as error:
        made.close()
        raise ConfigError(
            f"cannot listen on {host}:{port}: {error.strerror}.", "Choose another port with --port."
        ) from None
    return made


def _welcome(settings: Settings, listening: socket.socket, token_file: str | None) -> None:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    store = without_password(settings.store)
    _say(f"autoprune serves {store} at http://{host}:{listening.getsockname()[1]}/ (Ctrl-C ends it)")
    if token_file is not None:
        _say(f"a token of {token_file} is asked for.")
    if settings.ray_address is not None and settings.parallel:
        _say(f"searches run as jobs of the cluster at {settings.ray_address}, which must see this store and data.")
    if settings.allow_code:
        _say("warning: --allow-code lets everyone who may launch run code on this machine.")
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s: %(message)s", stream=sys.stderr)


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
