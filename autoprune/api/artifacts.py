"""Exported models on request: each made once, in a process of its own, and kept as a zip file beside the store."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from autoprune.api.stores import store_file, store_url
from autoprune.errors import Conflict, NotFound, StoreError
from autoprune.files import Damaged, file_digest, replacing, set_aside, with_digest, without_digest, write_text
from autoprune.types import SearchRecord, Trial, TrialState

__all__ = ["Artifact", "Exporter"]

_WAITING = 16
_SECONDS = 3600.0
_SAID = 2000


@dataclass(frozen=True)
class Artifact:
    """One export of one trial."""

    id: str
    """16 hexadecimal digits of all that decides its content."""
    search: str
    trial: int
    format: str
    state: str
    """``running`` (or waiting), ``ready`` or ``failed``."""
    message: str = ""
    path: Path | None = None
    """The zip file, once it is ready."""

    @property
    def bytes(self) -> int | None:
        return None if self.path is None else self.path.stat().st_size


class Exporter:
    """Makes exports one after another; used from several threads. ``close`` ends the one that runs."""

    def __init__(self, store: str | None = None, *, command: Sequence[str] = ()) -> None:
        self._url = store_url(store)
        self._command = tuple(command) or (sys.executable, "-m", "autoprune", "export")
        self._folder = store_file(self._url).parent / "exports"
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="export")
        self._lock = threading.Lock()
        self._known: dict[str, Artifact] = {}
        self._checked: dict[Path, tuple[int, int]] = {}
        """Size and time of the files whose digest was compared."""
        self._process: subprocess.Popen[str] | None = None
        self._closed = False

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._process is not None:
                self._process.kill()
        self._pool.shutdown(cancel_futures=True)

    def start(self, record: SearchRecord, trial: Trial, *, format: str, fold_bn: bool = False) -> Artifact:
        """Begin an export, or find the one that there is; one that failed is tried again.

        Raises Conflict when the trial has no model, or when too many exports wait.
        """
        if trial.state not in (TrialState.COMPLETE, TrialState.STOPPED, TrialState.INFEASIBLE):
            raise Conflict(
                f"trial {trial.number} of {record.name!r} is {trial.state.value}; only measured trials can be exported."
            )
        made = self._described(record, trial, format, fold_bn)
        with self._lock:
            known = self._known.get(made.id)
            if known is not None and known.state == "running":
                return known
            if made.state == "ready":
                return made
            if sum(each.state == "running" for each in self._known.values()) >= _WAITING:
                raise Conflict(f"{_WAITING} exports wait already.", "Try again when one is ready.")
            self._known[made.id] = made
        self._pool.submit(self._make, made, fold_bn)
        return made

    def find(self, artifact_id: str) -> Artifact:
        """Raises NotFound for one that was not asked for since the server started, nor is kept."""
        with self._lock:
            known = self._known.get(artifact_id)
        if known is not None and known.path is None:
            return known
        path = self._folder / f"{artifact_id}.zip"
        content = self._whole(path)
        if content is None:
            raise NotFound(f"there is no export {artifact_id!r}.", "Ask for it anew.")
        return Artifact(artifact_id, content["search"], content["trial"], content["format"], "ready", "", path)

    def _whole(self, path: Path) -> dict[str, Any] | None:
        """What is said of a zip file that is there whole; a damaged one is warned of and set aside."""
        described = path.with_suffix(".json")
        try:
            status = path.stat()
            content = without_digest(json.loads(described.read_text("utf-8")), required=True)
            seen = (status.st_size, status.st_mtime_ns)
            if self._checked.get(path) != seen and file_digest(path) != content["file"]:
                raise Damaged("its SHA-256 is not the one that it was written with")
        except FileNotFoundError:
            return None
        except (Damaged, OSError, ValueError, KeyError, AttributeError) as error:
            set_aside(path, "the export", error, "It is made again when it is asked for.")
            described.unlink(missing_ok=True)
            return None
        self._checked[path] = seen
        return content

    def _described(self, record: SearchRecord, trial: Trial, format: str, fold_bn: bool) -> Artifact:
        decides = (record.name, record.created_at, record.evaluation_digest, trial.number, format, fold_bn)
        artifact_id = hashlib.sha256(repr((*decides, trial.candidate.digest)).encode()).hexdigest()[:16]
        path = self._folder / f"{artifact_id}.zip"
        made = Artifact(artifact_id, record.name, trial.number, format, "running")
        return replace(made, state="ready", path=path) if self._whole(path) is not None else made

    def _make(self, made: Artifact, fold_bn: bool) -> None:
        folder = self._folder / f"{made.id}.{os.getpid()}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(folder, ignore_errors=True)
            said = self._run(made, folder, fold_bn)
            made = replace(made, state="failed", message=said) if said else self._packed(made, folder)
        except (StoreError, OSError, subprocess.SubprocessError) as error:
            made = replace(made, state="failed", message=f"the export failed: {error}")
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            with self._lock:
                self._known[made.id] = made if made.state != "running" else replace(made, state="failed")

    def _run(self, made: Artifact, folder: Path, fold_bn: bool) -> str:
        """What went wrong; empty when the folder has been written."""
        asked = [made.search, str(made.trial), "--out", str(folder), "--format", made.format]
        with self._lock:
            if self._closed:
                return "the server is ending."
            self._process = subprocess.Popen(
                [*self._command, *asked, "--quiet", *(["--fold-bn"] if fold_bn else [])],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env={**os.environ, "AUTOPRUNE_STORE": self._url},  # a password is not for the list of processes
                text=True,
                errors="replace",
            )
            process = self._process
        try:
            _, said = process.communicate(timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return f"it took longer than {_SECONDS:.0f} s."
        if process.returncode == 0:
            return ""
        return said.strip()[-_SAID:].removeprefix("error: ") or f"its process ended with {process.returncode}."

    def _packed(self, made: Artifact, folder: Path) -> Artifact:
        """The folder as a zip file, which is there whole or not at all."""
        path = self._folder / f"{made.id}.zip"
        with replacing(path) as partial:
            with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
                for file in sorted(item for item in folder.rglob("*") if item.is_file()):
                    archive.write(file, file.relative_to(folder))
            content = {"search": made.search, "trial": made.trial, "format": made.format, "file": file_digest(partial)}
            write_text(path.with_suffix(".json"), json.dumps(with_digest(content)))
        return replace(made, state="ready", path=path)
