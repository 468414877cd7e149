"""A temporary PostgreSQL server for tests and benchmarks: on a loopback port of its own, gone at the end.

    with PostgresServer() as server:
        store = open_store(server.new_database())
        server.stop(immediate=True)
        server.start()  # same port, same data

It needs PostgreSQL's programs (``initdb`` and ``postgres``), and ``psycopg`` for ``new_database`` and ``execute``.
Nothing is flushed to the disk: data outlive a kill of the server, not of the machine.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

__all__ = ["PostgresMissing", "PostgresServer", "find_programs"]

_USER = "autoprune"
_SECONDS = 60.0
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
}


class PostgresMissing(Exception):
    """No server can be started here; the text says why. Tests skip with it."""


def find_programs() -> Path:
    """The folder with ``initdb`` and ``postgres``: on the path, or the newest where Debian keeps them.

    Raises PostgresMissing.
    """
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: path.parent.name.zfill(4))[::-1]
    for folder in folders:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    raise PostgresMissing("PostgreSQL's programs initdb and postgres are not installed")


class PostgresServer:
    """A server with a password. ``settings`` are added to its configuration, as ``{"statement_timeout": "5s"}``."""

    def __init__(self, **settings: str) -> None:
        self._programs = find_programs()
        self._settings = {**_SETTINGS, **settings}
        self._account = _unprivileged() if os.geteuid() == 0 else None
        self._folder = Path(tempfile.mkdtemp(prefix="autoprune-postgres-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._databases = 0
        self.password = f"pass/{secrets.token_hex(8)}"
        """With a character that a URL must quote."""
        self.port = _free_port()

    def __enter__(self) -> PostgresServer:
        try:
            self._initialise()
            self._start_somewhere()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    # --- URLs and databases --------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """Of the database that always exists."""
        return self.url_of("postgres")

    def url_of(self, database: str, *, user: str = _USER, password: str | None = None, port: int | None = None) -> str:
        """The URL of a database, with the password in it, quoted."""
        from urllib.parse import quote

        secret = quote(self.password if password is None else password, safe="")
        return f"postgresql://{user}:{secret}@127.0.0.1:{port or self.port}/{database}"

    def new_database(self) -> str:
        """The URL of a new, empty database."""
        self._databases += 1
        name = f"test_{os.getpid()}_{self._databases}"
        self.execute(f'CREATE DATABASE "{name}"')
        return self.url_of(name)

    def execute(self, statement: str, url: str | None = None) -> list[tuple[Any, ...]]:
        """Run one statement as the server's owner, outside any transaction; the rows, if it has some."""
        import psycopg

        with psycopg.connect(url or self.url, autocommit=True, connect_timeout=10) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def cut_connections(self, url: str | None = None) -> int:
        """End every connection (to the database of ``url``) from the server's side; how many."""
        here = "" if url is None else " AND datname = current_database()"
        rows = self.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            f" WHERE backend_type = 'client backend' AND pid <> pg_backend_pid(){here}",
            url,
        )
        return len(rows)

    # --- the process ---------------------------------------------------------------------------------------------

    @property
    def pid(self) -> int | None:
        """Of the running server."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start again, on the same port and data. Raises RuntimeError with the end of the server's log."""
        deadline = time.monotonic() + _SECONDS
        while not self._try_to_start(deadline):
            # Killed without warning, its children may hold its memory for a moment longer.
            if time.monotonic() > deadline or "could not bind" in self.log():
                raise RuntimeError(f"PostgreSQL did not start:\n{self.log()[-2000:]}")
            time.sleep(0.2)

    def stop(self, immediate: bool = False) -> None:
        """Stop: connections are ended in order, or (immediate) as in a crash, to be recovered at the next start."""
        self._end(signal.SIGQUIT if immediate else signal.SIGINT)

    def kill(self) -> None:
        """SIGKILL: nothing can be said to anybody."""
        self._end(signal.SIGKILL)

    def log(self) -> str:
        """What the server wrote since its last start."""
        path = self._folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def _initialise(self) -> None:
        secret = self._folder / "password"
        secret.write_text(self.password)
        if self._account is not None:
            os.chown(secret, self._account, -1)
            os.chown(self._folder, self._account, -1)
        options = ["--auth=scram-sha-256", f"--pwfile={secret}", f"--username={_USER}"]
        options += ["--no-sync", "--encoding=UTF8", "--locale=C"]
        done = self._spawn("initdb", [*options, "-D", str(self._folder / "data")], stdout=subprocess.PIPE)
        output, _ = done.communicate(timeout=_SECONDS)
        secret.unlink()
        if done.returncode != 0:
            raise RuntimeError(f"initdb failed:\n{output.decode(errors='replace')[-2000:]}")

    def _start_somewhere(self) -> None:
        """Another process may take the free port first."""
        for _ in range(5):
            try:
                return self.start()
            except RuntimeError:
                if "could not bind" not in self.log():
                    raise
                self.port = _free_port()
        raise RuntimeError("no free port was found for PostgreSQL")

    def _try_to_start(self, deadline: float) -> bool:
        options = [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        with open(self._folder / "log", "wb") as log:
            arguments = ["-D", str(self._folder / "data"), "-p", str(self.port), *options]
            self._process = self._spawn("postgres", arguments, stdout=log)
        while time.monotonic() < deadline and self._process.poll() is None:
            if self._is_ready(self._process.pid):
                return True
            time.sleep(0.02)
        self._end(signal.SIGQUIT)
        return False

    def _is_ready(self, pid: int) -> bool:
        try:
            lines = (self._folder / "data" / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"

    def _spawn(self, program: str, arguments: list[str], stdout: Any) -> subprocess.Popen[bytes]:
        account: dict[str, Any] = {}
        if self._account is not None:
            account = {"user": self._account, "group": pwd.getpwuid(self._account).pw_gid, "extra_groups": []}
        return subprocess.Popen(
            [str(self._programs / program), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.STDOUT,
            cwd=self._folder,
            env={"PATH": os.defpath, "TZ": "UTC", "LC_ALL": "C"},
            start_new_session=True,  # Ctrl-C is for the tests, which end the server themselves
            **account,
        )

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(how)
        try:
            self._process.wait(_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _remove(self) -> None:
        self._end(signal.SIGQUIT)
        shutil.rmtree(self._folder, ignore_errors=True)


def _unprivileged() -> int:
    """A user that PostgreSQL accepts, which refuses root."""
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_uid
        except KeyError:
            continue
    raise PostgresMissing("PostgreSQL refuses to run as root, and there is no user 'postgres' or 'nobody'")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
