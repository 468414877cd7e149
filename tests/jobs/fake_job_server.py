"""A stand-in for the job server of a Ray cluster, on a port of its own: jobs do what the test says."""

from __future__ import annotations

import io
import json
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class FakeCluster:
    token: str = ""
    version: str = "2.60.0"
    address: str = ""
    silent: bool = False
    """Answers with what a proxy says when nobody is behind it."""
    packages: dict[str, bytes] = field(default_factory=dict)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    logs: dict[str, str] = field(default_factory=dict)
    stopped: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    """Method and path of every request."""
    first_state: str = "RUNNING"

    def end(self, job_id: str, state: str = "SUCCEEDED", **details: Any) -> None:
        self.jobs[job_id].update(status=state, **details)

    def files(self, job_id: str) -> dict[str, bytes]:
        """What travelled with a job."""
        uri = self.jobs[job_id]["runtime_env"]["working_dir"]
        with zipfile.ZipFile(io.BytesIO(self.packages[uri.removeprefix("gcs://")])) as packed:
            return {name: packed.read(name) for name in packed.namelist()}

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        if path == "/api/version":
            return 200, {"version": "4", "ray_version": self.version}
        if path.startswith("/api/packages/gcs/"):
            return self._package(method, path.rpartition("/")[2], body)
        if (method, path) == ("POST", "/api/jobs/"):
            return self._submit(json.loads(body))
        job_id, _, verb = path.removeprefix("/api/jobs/").partition("/")
        if job_id not in self.jobs:
            return 404, f"Job {job_id} does not exist"
        if verb == "logs":
            return 200, {"logs": self.logs[job_id]}
        if verb == "stop":
            self.stopped.append(job_id)
            running = self.jobs[job_id]["status"] in ("PENDING", "RUNNING")
            if running:
                self.end(job_id, "STOPPED")
            return 200, {"stopped": running}
        return 200, self.jobs[job_id]

    def _package(self, method: str, name: str, body: bytes) -> tuple[int, Any]:
        if method == "PUT":
            self.packages[name] = body
            return 200, ""
        return (200, "") if name in self.packages else (404, "it does not exist")

    def _submit(self, content: dict[str, Any]) -> tuple[int, Any]:
        job_id = content["submission_id"]
        if job_id in self.jobs:
            said = f"ValueError: Job with submission_id {job_id} already exists."
            return 500, f"Traceback (most recent call last):\n  File ...\n{said}\n.\n"
        self.jobs[job_id] = {**content, "status": self.first_state, "message": "", "driver_exit_code": None}
        self.logs[job_id] = f"Running entrypoint for job {job_id}\n"
        return 200, {"submission_id": job_id}


@contextmanager
def fake_cluster(**settings: Any) -> Iterator[FakeCluster]:
    """Serve one until the end of the block."""
    cluster = FakeCluster(**settings)

    class Handler(BaseHTTPRequestHandler):
        def _handle(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            cluster.asked.append(f"{self.command} {self.path}")
            given = self.headers.get("authorization", "")
            if cluster.silent:
                status, content = 503, "nobody is there"
            elif cluster.token and not given:
                status, content = 401, "Unauthorized: Missing authentication token"
            elif cluster.token and given != f"Bearer {cluster.token}":
                status, content = 403, "Forbidden: Invalid authentication token"
            else:
                status, content = cluster.answer(self.command, self.path, body)
            sent = (content if isinstance(content, str) else json.dumps(content)).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        do_GET = do_POST = do_PUT = _handle

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    cluster.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield cluster
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
