"""Starting a server, and ending it in good order."""

from __future__ import annotations

import logging
import socket
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import uvicorn

from autoprune.api.stores import open_at, store_url
from autoprune.errors import ConfigError
from autoprune.service.app import create_app
from autoprune.service.settings import Settings
from autoprune.service.tokens import Tokens, load_tokens, make_token_file

__all__ = ["listen", "run"]

_CONNECTIONS = 256


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
    )
    open_at(url).close()  # made where there is none; a newer one is refused now
    listening = listen(host, port)
    _welcome(settings, listening, token_file)
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=_CONNECTIONS,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=5,
        h11_max_incomplete_event_size=64 * 1024,
        ws="none",
        proxy_headers=False,
    )
    _Server(config, app.state.context.closing).run(sockets=[listening])


class _Server(uvicorn.Server):
    """Ends event streams when it is asked to end, instead of waiting for their clients."""

    def __init__(self, config: uvicorn.Config, closing: threading.Event) -> None:
        super().__init__(config)
        self._closing = closing

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
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
    _say(f"autoprune serves {settings.store} at http://{host}:{listening.getsockname()[1]}/ (Ctrl-C ends it)")
    if token_file is not None:
        _say(f"a token of {token_file} is asked for.")
    if settings.allow_code:
        _say("warning: --allow-code lets everyone who may launch run code on this machine.")
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s: %(message)s", stream=sys.stderr)


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
