"""The library's verbs, answered by a server."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from autoprune.client.archive import unpacked
from autoprune.client.transport import Transport
from autoprune.client.wire import (
    front_from,
    history_from,
    launch_from,
    search_from,
    selection_from,
    trial_from,
)
from autoprune.errors import NotFound, SearchAborted
from autoprune.types import Launch, LaunchState, SearchRecord, Trial, TrialState

if TYPE_CHECKING:
    from autoprune.analysis.front import Front
    from autoprune.analysis.history import History
    from autoprune.analysis.selection import Selection
    from autoprune.api.searching import SearchResult
    from autoprune.config.schema import SearchConfig
    from autoprune.protocols import Progress

__all__ = ["Client"]

_PAGE = 1000


class Client:
    """A server of ``autoprune serve``; its methods are the functions of ``autoprune``, with the same results and
    errors, without ``store``. Safe to use from several threads.

    Raises ServiceError when no server answers or the token does not allow it.
    """

    def __init__(self, url: str, token: str | None = None, *, timeout: float = 60.0, poll_seconds: float = 1.0) -> None:
        """
        Args:
            token: of the server's token file; for reading, or for launching.
            timeout: seconds to wait for an answer.
            poll_seconds: how often to look whether a search or an export has ended.
        """
        self._server = Transport(url, token, timeout)
        self._poll = poll_seconds

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back."""
        self._server.close()

    # --- reading -------------------------------------------------------------------------------------------------

    def health(self) -> dict[str, Any]:
        """``status``, ``version`` and ``store`` of the server."""
        return dict(self._server.get("/health"))

    def searches(self) -> list[SearchRecord]:
        """All searches of the server's store, newest first."""
        return [self.record(each["name"]) for each in self._server.get("/searches")["searches"]]

    def record(self, name: str) -> SearchRecord:
        """One search. Raises NotFound."""
        return search_from(self._server.get(f"/searches/{name}"))

    def trials(self, name: str, *, states: Sequence[TrialState | str] | None = None) -> list[Trial]:
        """The trials of a search by number. See :func:`autoprune.trials`."""
        wanted = None if states is None else [TrialState(each).value for each in states]
        found: list[Trial] = []
        cursor: str | None = None
        while True:
            page = self._server.get(f"/searches/{name}/trials", state=wanted, limit=_PAGE, cursor=cursor)
            found += [trial_from(each) for each in page["trials"]]
            cursor = page["next"]
            if cursor is None:
                return found

    def trial(self, name: str, number: int) -> Trial:
        """One trial. Raises NotFound."""
        return trial_from(self._server.get(f"/searches/{name}/trials/{number}")["trial"])

    def front(self, name: str, *, x: str | None = None, y: str | None = None, where: Sequence[str] = ()) -> Front:
        """See :func:`autoprune.front`."""
        return front_from(self._server.get(f"/searches/{name}/front", x=x, y=y, where=list(where)))

    def select(
        self, name: str, *, where: Sequence[str] = (), maximize: str | None = None, minimize: str | None = None
    ) -> Selection:
        """See :func:`autoprune.select`; NothingFeasible carries the nearest miss."""
        budgets = list(where)
        return selection_from(
            self._server.get(f"/searches/{name}/select", where=budgets, maximize=maximize, minimize=minimize)
        )

    def history(self, name: str, *, x: str | None = None, y: str | None = None) -> History:
        """See :func:`autoprune.history`."""
        return history_from(self._server.get(f"/searches/{name}/history", x=x, y=y, every=True))

    def comparisons(self, name: str) -> list[dict[str, Any]]:
        """What ``autoprune compare`` found for the search, as its ``comparison.json``. Raises NotFound."""
        return [each["report"] for each in self._server.get(f"/searches/{name}/comparisons")["comparisons"]]

    def controllers(self) -> dict[str, dict[str, Any]]:
        """Kind -> JSON schema of its settings."""
        return {each["name"]: each["configuration"] for each in self._server.get("/controllers")["kinds"]}

    def criteria(self) -> dict[str, dict[str, Any]]:
        """Name -> JSON schema of its options."""
        return {each["name"]: each["configuration"] for each in self._server.get("/criteria")["kinds"]}

    def events(self, search: str | None = None, *, after: str = "") -> Iterator[tuple[str, dict[str, Any], str]]:
        """What happens, as ``(event, data, id)``, until the server ends; ``after`` an ``id`` goes on behind it."""
        headers = {"last-event-id": after} if after else None
        with self._server.stream("/events", headers, search=search) as answer:
            fields: dict[str, str] = {}
            for line in answer.iter_lines():
                if line:
                    key, _, value = line.partition(": ")
                    fields[key] = value
                elif "event" in fields:
                    yield fields["event"], json.loads(fields["data"]), fields.get("id", "")
                    fields = {}

    # --- running -------------------------------------------------------------------------------------------------

    def launch(self, config: str | Path | Mapping[str, Any] | SearchConfig, *, overrides: Sequence[str] = ()) -> Launch:
        """Let the server run a search, and return at once.

        A launch file and the space file that it names are read here; data and checkpoints are paths of the server's
        data root. Raises ConfigError with all mistakes, Conflict.
        """
        from autoprune.config.loading import load_search

        loaded = load_search(config, overrides)
        body = loaded.model_dump(mode="json", exclude={"store"})
        for key in ("root", "download"):  # the server's own data root, unless the file says where
            if key not in loaded.space.data.model_fields_set:
                body["space"]["data"].pop(key, None)
        return launch_from(self._server.change("POST", "/launches", body))

    def search(
        self,
        config: str | Path | Mapping[str, Any] | SearchConfig,
        *,
        overrides: Sequence[str] = (),
        progress: Progress | None = None,
    ) -> SearchResult:
        """Let the server run a search, and wait for its end. See :func:`autoprune.search`.

        Ctrl-C ends the waiting; ``stop`` ends the search.
        """
        from autoprune.config.loading import load_search

        loaded = load_search(config, overrides)
        before = self._stamp(loaded.name)
        return self._awaited(self.launch(loaded), before, progress)

    def resume(self, name: str, *, trials: int | None = None, progress: Progress | None = None) -> SearchResult:
        """Let the server go on with a search, and wait for its end. See :func:`autoprune.resume`."""
        before = self._stamp(name)
        made = self._server.change("POST", f"/searches/{name}/resume", {"trials": trials})
        return self._awaited(launch_from(made), before, progress)

    def launches(self, search: str | None = None) -> list[Launch]:
        """What waits, runs and has run, the youngest first."""
        return [launch_from(each) for each in self._server.get("/launches", search=search)["launches"]]

    def log(self, launch_id: int) -> str:
        """What the driver of a launch has written so far."""
        parts: list[str] = []
        after = 0
        while True:
            page = self._server.get(f"/launches/{launch_id}/log", after=after)
            if not page["text"]:
                return "".join(parts)
            parts.append(page["text"])
            after = page["next"]

    def stop(self, name: str) -> Launch:
        """Ask the search to end in good order; what was measured is kept. Raises Conflict when no worker runs it."""
        return launch_from(self._server.change("POST", f"/searches/{name}/stop"))

    def delete(self, name: str) -> None:
        """Delete a search with its trials for good. Raises Conflict while it runs."""
        self._server.change("DELETE", f"/searches/{name}", confirm=name)

    def _stamp(self, name: str) -> float | None:
        """When the search was last written; None for one that is not there yet."""
        try:
            return self.record(name).updated_at
        except NotFound:
            return None

    def _awaited(self, launch: Launch, before: float | None, progress: Progress | None) -> SearchResult:
        """The result of a launch once it has ended; ``before`` is the search's stamp from before it began."""
        from autoprune.api.searching import SearchResult

        shown = 0
        while not launch.state.ended:
            time.sleep(self._poll)
            launch = launch_from(self._server.get(f"/launches/{launch.id}"))
            if progress is not None:
                page = self._server.get(f"/launches/{launch.id}/log", after=shown)
                shown = page["next"]
                for line in page["text"].splitlines():
                    progress.note(line)
        if launch.state is LaunchState.FAILED:
            raise SearchAborted(f"launch {launch.id} failed: {launch.message}", f"Its log: log({launch.id}).")
        try:
            record = self.record(launch.search)
        except NotFound:
            told = f"launch {launch.id} was stopped before its search began. {launch.message}"
            raise SearchAborted(told.strip(), f"Go on with it: resume({launch.search!r}).") from None
        return SearchResult(
            record=record,
            front=self.front(launch.search),
            output=Path(str(record.config.get("output", "results"))) / launch.search,
            trials=sum(count for state, count in record.trial_counts.items() if TrialState(state).finished),
            reused=record.updated_at == before,
        )

    # --- models --------------------------------------------------------------------------------------------------

    def export(
        self,
        name: str,
        trial: int,
        out: str | Path,
        *,
        format: str = "safetensors",
        fold_bn: bool = False,
    ) -> Path:
        """Let the server build and verify a trial's model, and write it to a new folder here.

        See :func:`autoprune.export`. Raises SearchAborted when the export failed, with what it said.
        """
        from autoprune.client.archive import free

        target = free(Path(out))
        body = {"format": format, "fold_bn": fold_bn}
        made = self._server.change("POST", f"/searches/{name}/trials/{trial}/exports", body)
        while made["state"] == "running":
            time.sleep(self._poll)
            made = self._server.get(f"/exports/{made['id']}")
        if made["state"] == "failed":
            raise SearchAborted(f"trial {trial} of {name!r} was not exported: {made['message']}")
        with tempfile.TemporaryFile() as file:
            with self._server.stream(f"/exports/{made['id']}/download") as answer:
                for part in answer.iter_bytes():
                    file.write(part)
            return unpacked(file, target)
