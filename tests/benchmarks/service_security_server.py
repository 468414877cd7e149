"""A server for ``service_security.py``: without rate limits, and every connection that it makes is written down.

python service_security_server.py STORE_URL DATA_ROOT PORT_FILE CONNECTIONS_FILE [TOKEN_FILE]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from autoprune.service.app import create_app
from autoprune.service.run import Server, listen
from autoprune.service.settings import Limits, Settings
from autoprune.service.tokens import Tokens, load_tokens


def main() -> None:
    store, data_root, port_file, connections, *token_file = sys.argv[1:]

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "socket.connect":
            with Path(connections).open("a") as file:
                file.write(f"{arguments[1]!r}\n")

    sys.addaudithook(audit)
    many = 1e9
    settings = Settings(
        store=store,
        data_root=Path(data_root),
        output=Path(data_root).parent / "out",
        tokens=load_tokens(Path(token_file[0])) if token_file else Tokens(),
        parallel=0,
        limits=Limits(requests_per_second=many, burst=10**9, launches_per_minute=many, failures_per_minute=many),
    )
    socket = listen("127.0.0.1", 0)
    Path(port_file).write_text(str(socket.getsockname()[1]))
    Server(create_app(settings)).run(sockets=[socket])


if __name__ == "__main__":
    main()
