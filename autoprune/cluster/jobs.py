"""The job server of a Ray cluster's head node, spoken to over HTTP.

Ray's own client needs ``ray[default]`` (31 packages) where a job is submitted from, and lets ``RAY_ADDRESS`` win over
the address that it is given; these are five requests of the documented interface, and the two with which that
client uploads files.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from autoprune.errors import ConfigError, NotFound, ServiceError

__all__ = ["Job", "JobState", "RayJobs", "Unreachable"]

OLDEST_RAY = (2, 40)
"""As in pyproject.toml: older ones are refused before anything is sent."""
_STOP_SECONDS = 45
"""Between Ctrl-C and the end by force: trials get ten seconds to finish, and the report is written."""
_MOST_BYTES = 90 * 2**20
"""Ray's job server takes 100 MiB."""
_TOKEN_HINT = (
    "Set RAY_AUTH_TOKEN here to the token that the cluster was started with, or put it into the file that"
    " RAY_AUTH_TOKEN_PATH names (~/.ray/auth_token where it is not set)."
)
_ADDRESS_HINT = "Give the address of the head node's job server, such as http://head:8265."


class Unreachable(ServiceError):
    """Nobody answers: it may come back, so a job's state is not known."""


class JobState(str, Enum):
    """As Ray says it, with its words for people."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    STOPPED = "STOPPED"

    @property
    def ended(self) -> bool:
        return self not in (JobState.PENDING, JobState.RUNNING)

    @property
    def words(self) -> str:
        """
        >>> JobState.PENDING.words
        'is being prepared by the cluster'
        """
        return {
            JobState.PENDING: "is being prepared by the cluster",
            JobState.RUNNING: "runs",
            JobState.SUCCEEDED: "is done",
            JobState.FAILED: "failed",
            JobState.STOPPED: "was stopped",
        }[self]


@dataclass(frozen=True)
class Job:
    id: str
    state: JobState
    exit_code: int | None = None
    """Of its process; negative: killed by that signal; None: it did not begin, was stopped, or its node was lost."""
    message: str = ""
    error: str = ""
    """Ray's kind of failure, such as ``RUNTIME_ENV_SETUP_FAILURE``."""
    metadata: Mapping[str, str] | None = None

    @property
    def never_began(self) -> bool:
        """Its files or its environment could not be set up: another attempt would fail alike."""
        return self.error in ("RUNTIME_ENV_SETUP_FAILURE", "JOB_ENTRYPOINT_COMMAND_START_ERROR")

    @property
    def cause(self) -> str:
        """Why it failed, in one line: the last line of Ray's message that is not part of a traceback's frames."""
        lines = [line.strip() for line in self.message.splitlines() if line.strip()]
        named = [line for line in lines if re.match(r"(\w+\.)*\w*(Error|Exception)\b", line)]
        return (named or lines or ["no reason is given."])[-1 if named else 0][:300]


class RayJobs:
    """The jobs of one cluster. ``transport`` is for tests."""

    def __init__(self, address: str, *, seconds: float = 30.0, transport: httpx.BaseTransport | None = None) -> None:
        self.address = _checked(address)
        token = _token()
        self._http = httpx.Client(
            base_url=self.address,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=httpx.Timeout(seconds, connect=min(seconds, 5.0)),
            transport=transport,
        )

    def close(self) -> None:
        self._http.close()

    def check(self) -> str:
        """The cluster's version of Ray. Raises ConfigError for one that is too old, and ServiceError."""
        found = str(self._json(self._ask("GET", "/api/version")).get("ray_version", ""))
        numbers = tuple(int(part) for part in re.findall(r"\d+", found)[:2])
        if numbers < OLDEST_RAY:
            wanted = ".".join(map(str, OLDEST_RAY))
            raise ConfigError(
                f"the cluster at {self.address} runs Ray {found or 'unknown'}; autoprune needs {wanted} or newer.",
                "Install a newer Ray on all of its nodes.",
            )
        return found

    def upload(self, archive: bytes) -> str:
        """Bring a zip archive to the cluster, unless it is there already; gives the URI that a job names it by.

        Raises ConfigError for one that is too large.
        """
        if len(archive) > _MOST_BYTES:
            raise ConfigError(
                f"the files of this job have {len(archive) >> 20} MiB; a cluster takes {_MOST_BYTES >> 20} with a job.",
                "Put the large ones (checkpoints) on a disk that its nodes share, and give their absolute paths.",
            )
        name = f"_ray_pkg_{hashlib.sha256(archive).hexdigest()[:16]}.zip"
        # Asking keeps the cluster from forgetting the package before the job begins.
        if self._ask("GET", f"/api/packages/gcs/{name}", allowed=(404,)).status_code == 404:
            self._ask("PUT", f"/api/packages/gcs/{name}", content=archive)
        return f"gcs://{name}"

    def submit(self, job_id: str, command: str, package: str, metadata: Mapping[str, str]) -> bool:
        """Start ``command`` (a shell line) in a folder with the files of the package; False: the job is there already.

        Nothing of ``command`` and ``metadata`` may be secret: the cluster's dashboard shows them.
        """
        environment = {"RAY_JOB_STOP_SIGNAL": "SIGINT", "RAY_JOB_STOP_WAIT_TIME_S": str(_STOP_SECONDS)}
        content = {
            "entrypoint": command,
            "submission_id": job_id,
            "runtime_env": {"working_dir": package, "env_vars": environment},
            "metadata": dict(metadata),
        }
        answer = self._ask("POST", "/api/jobs/", json=content, allowed=(400, 500))
        if answer.status_code == 200:
            return True
        if "already exists" in answer.text:
            return False
        raise ServiceError(f"the cluster at {self.address} refused the job: {_last_line(answer.text)}")

    def job(self, job_id: str) -> Job:
        """Raises NotFound for a job that this cluster does not know (any more)."""
        found = self._json(self._ask("GET", _path(job_id), job_id=job_id))
        try:
            state = JobState(found.get("status"))
        except ValueError:
            raise ServiceError(f"job {job_id} has a state that is not known here: {found.get('status')!r}.") from None
        code = found.get("driver_exit_code")
        return Job(
            id=job_id,
            state=state,
            exit_code=code if isinstance(code, int) and state is not JobState.STOPPED else None,
            message=str(found.get("message") or ""),
            error=str(found.get("error_type") or ""),
            metadata=found.get("metadata") or {},
        )

    def log(self, job_id: str) -> str:
        """All that it has written so far."""
        return str(self._json(self._ask("GET", f"{_path(job_id)}/logs", job_id=job_id)).get("logs") or "")

    def stop(self, job_id: str) -> bool:
        """Send it Ctrl-C, and end it by force where it has not ended after 45 seconds; False: it had ended already.

        Raises NotFound.
        """
        return bool(self._json(self._ask("POST", f"{_path(job_id)}/stop", job_id=job_id)).get("stopped"))

    # --- requests ------------------------------------------------------------------------------------------------

    def _ask(
        self, method: str, path: str, *, job_id: str = "", allowed: tuple[int, ...] = (), **content: Any
    ) -> httpx.Response:
        try:
            answer = self._http.request(method, path, **content)
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise Unreachable(f"no job server answers at {self.address}: {reason}.", _ADDRESS_HINT) from None
        status = answer.status_code
        if status == 200 or status in allowed:
            return answer
        if status in (401, 403):
            why = "asks for a token" if status == 401 else "does not accept this token"
            raise ServiceError(f"the cluster at {self.address} {why} (HTTP {status}).", _TOKEN_HINT)
        if status == 404 and job_id:
            raise NotFound(
                f"the cluster at {self.address} knows no job {job_id!r}.",
                "Its head node may be a new one. Submit the search again: it goes on where it stopped.",
            )
        if status in (502, 503, 504):  # a proxy before a head node that is being replaced
            raise Unreachable(f"no job server answers behind {self.address}: HTTP {status}.", _ADDRESS_HINT)
        raise ServiceError(
            f"{self.address} answered with HTTP {status}: {_last_line(answer.text) or 'nothing more'}",
            _ADDRESS_HINT + " Its node needs 'ray[default]' (the extra 'cluster' of autoprune).",
        )

    def _json(self, answer: httpx.Response) -> Mapping[str, Any]:
        try:
            content = answer.json()
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise ServiceError(f"{self.address} answers, but it is no job server of Ray.", _ADDRESS_HINT)
        return content


def _path(job_id: str) -> str:
    return f"/api/jobs/{quote(job_id, safe='')}"


def _checked(address: str) -> str:
    """``http://host:port``. Raises ConfigError.

    >>> _checked("head:8265"), _checked("https://ray.example.org/")
    ('http://head:8265', 'https://ray.example.org')
    """
    parts = urlsplit(address if "://" in address else f"http://{address}")
    try:
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:  # a port that is no number
        usable = False
    if parts.username or parts.password:
        raise ConfigError(
            "the address of the job server holds a user or a password: it knows tokens only.", _TOKEN_HINT
        )
    if not usable or address == "auto" or parts.query or parts.fragment:
        raise ConfigError(f"{address!r} is no address of a job server.", _ADDRESS_HINT)
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def _token() -> str:
    """Where Ray's own tools look for it: the variable, the file that another one names, the file in ``~/.ray``."""
    if token := os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return token
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    path = Path(named).expanduser() if named else Path.home() / ".ray" / "auth_token"
    try:
        return path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        if named:
            reason = getattr(error, "strerror", None) or "it is no text"
            raise ConfigError(f"RAY_AUTH_TOKEN_PATH names {named!r}, which cannot be read: {reason}.") from None
        return ""


def _last_line(text: str) -> str:
    """Ray answers with tracebacks: the line that names the error is the last one."""
    lines = [line.strip() for line in text.splitlines() if line.strip(" .")]
    return lines[-1][:300] if lines else ""
