"""Measurements that are kept for good: what was measured once is looked up, by any process, in any later benchmark.

A recorded table is one gzip file of JSON lines and, while candidates are measured, a journal beside it
(``<path>.journal``) to which each measurement is appended at once. The first line names the groups; each evaluation has
a line that describes it; each candidate a list ``[evaluation, widths, top1, loss, seconds]``, widths in channels in the
order of the groups. Of two lines of one candidate the first counts. The last line holds the SHA-256 of all before it,
and a line of the journal ends with 16 digits of its own. Tables and journals of before there were any are read as well.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gzip
import hashlib
import json
import math
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from autoprune.errors import ConfigError, NotFound, StoreError
from autoprune.files import replacing
from autoprune.protocols import Evaluator
from autoprune.types import Candidate, Measurement

__all__ = ["Evaluation", "RecordedTable", "ReplayEvaluator"]

_FORMAT = "autoprune recorded candidates 1"
_Key = tuple[str, tuple[int, ...]]
_Row = tuple[float, float, float]


@dataclass(frozen=True)
class Evaluation:
    """How the candidates of one part of a table were measured."""

    digest: str
    """Equal digests, equal numbers; of settings, base weights and images."""
    settings: str
    """Digest of the settings alone."""
    label: str
    """What it is called within its benchmark: the kind of the weights, and ``on test`` for test images."""
    baseline: Mapping[str, float]
    """Metrics of the unpruned model."""


class RecordedTable:
    """Safe for several processes at once. ``groups``: the searched groups in the order of the space.

    Raises ConfigError for a file that is no table, or one of other groups, and StoreError when it cannot be read or
    written.
    """

    def __init__(self, path: Path, groups: Sequence[str]) -> None:
        self.path = path
        self._journal = path.with_name(path.name + ".journal")
        self._groups = tuple(groups)
        self._rows: dict[_Key, _Row] = {}
        self._evaluations: dict[str, Evaluation] = {}
        self._descriptor: int | None = None
        """The journal."""
        self._read = 0
        """Bytes of it that are known."""
        if self._journal.exists():
            with self._locked():
                pass
        else:
            self._take_in(_unpacked(path))

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def evaluations(self) -> tuple[Evaluation, ...]:
        return tuple(self._evaluations.values())

    def describe(self, evaluation: Evaluation) -> None:
        """Make an evaluation known, before its first candidate."""
        if evaluation.digest not in self._evaluations:
            with self._locked() as journal:
                if evaluation.digest not in self._evaluations:
                    self._append(journal, {"evaluation": asdict(evaluation)})

    def find(self, evaluation: str, candidate: Candidate) -> Measurement | None:
        """What was measured, as a final measurement."""
        row = self._rows.get(self._key(evaluation, candidate))
        if row is None:
            return None
        top1, loss, seconds = row
        return Measurement({"top1": top1, "loss": loss}, 0, seconds, True, {"evaluate": seconds})

    def add(self, evaluation: str, candidate: Candidate, measured: Measurement) -> Measurement:
        """Keep it, unless another process was first; returns what is kept, rounded as in the file."""
        top1, loss = (measured.metrics.get(name, math.nan) for name in ("top1", "loss"))
        numbers = [top1, round(loss, 6), round(measured.seconds, 4)]
        written = [number if math.isfinite(number) else None for number in numbers]
        widths = [int(candidate.widths[name]) for name in self._groups]
        with self._locked() as journal:
            if self._key(evaluation, candidate) not in self._rows:
                self._append(journal, [evaluation, widths, *written])
        found = self.find(evaluation, candidate)
        assert found is not None
        return found

    def lookup_again(self, evaluation: str, candidate: Candidate) -> Measurement | None:
        """As ``find``, after a look at what other processes have added."""
        with self._locked():
            return self.find(evaluation, candidate)

    def compact(self) -> None:
        """Move the journal into the compressed file; its bytes depend on the content alone."""
        if not self._journal.exists():
            return
        with self._locked():
            self._take_in(_unpacked(self.path))
            lines: list[Any] = [{"format": _FORMAT, "groups": list(self._groups)}]
            lines += [{"evaluation": asdict(item)} for _, item in sorted(self._evaluations.items())]
            lines += [[digest, widths, *map(_null, row)] for (digest, widths), row in sorted(self._rows.items())]
            text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
            text += json.dumps({"sha256": hashlib.sha256(text.encode()).hexdigest()}) + "\n"
            with replacing(self.path) as fresh:
                fresh.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
            self._journal.unlink()
        self.close()

    def close(self) -> None:
        """Let go of the journal; a later call opens it again."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __del__(self) -> None:
        self.close()

    # --- inside ------------------------------------------------------------------------------------------------------

    def _key(self, evaluation: str, candidate: Candidate) -> _Key:
        return evaluation, tuple(int(candidate.widths[name]) for name in self._groups)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[int]:
        """The journal, open and held against other processes, with what they have appended taken in.

        It stays open between calls: opening a file may cost as much as measuring a small candidate.
        """
        try:
            descriptor = self._lock()
        except OSError as error:
            raise StoreError(f"{self._journal} cannot be written: {error.strerror}.") from None
        try:
            self._refresh(descriptor)
            yield descriptor
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)

    def _lock(self) -> int:
        while True:
            if self._descriptor is None:
                self._journal.parent.mkdir(parents=True, exist_ok=True)
                self._descriptor = os.open(self._journal, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
                self._read = 0
                self._take_in(_unpacked(self.path))
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            if os.fstat(self._descriptor).st_nlink:
                return self._descriptor
            self.close()  # another process has moved it into the compressed file

    def _refresh(self, descriptor: int) -> None:
        """Read what was appended since; a last line that was cut off is dropped from the file."""
        size = os.fstat(descriptor).st_size
        if size == self._read:
            return
        text = os.pread(descriptor, size - self._read, self._read)
        whole = text.rfind(b"\n") + 1
        self._take_in(text[:whole].decode("utf-8", "replace").splitlines())
        self._read += whole
        if whole < len(text):
            os.ftruncate(descriptor, self._read)

    def _append(self, descriptor: int, line: Any) -> None:
        lines = [line]
        if not self._read and not self.path.exists():
            lines = [{"format": _FORMAT, "groups": list(self._groups)}, line]
        text = "".join(
            f"{body}\t{_mark(body)}\n" for body in (json.dumps(each, separators=(",", ":")) for each in lines)
        )
        try:
            if os.write(descriptor, raw := text.encode()) < len(raw):  # a disk that is full takes a part
                os.ftruncate(descriptor, self._read)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise StoreError(f"{self._journal} cannot be written: {error.strerror}.") from None
        self._take_in(text.splitlines())
        self._read += len(text)

    def _take_in(self, lines: Sequence[str]) -> None:
        for line in lines:
            try:
                body, tab, mark = line.partition("\t")
                if tab and mark != _mark(body):
                    raise ValueError(mark)
                self._take_line(json.loads(body))
            except (ValueError, KeyError, TypeError) as error:
                raise ConfigError(
                    f"{self.path} is not a table of recorded candidates: {line[:60]!r} is not understood.",
                    "Name another file with the key 'table', or remove this one.",
                ) from error

    def _take_line(self, line: Any) -> None:
        if isinstance(line, list):
            digest, widths, top1, loss, seconds = line
            row = tuple(math.nan if value is None else float(value) for value in (top1, loss, seconds))
            self._rows.setdefault((str(digest), tuple(map(int, widths))), row)  # type: ignore[arg-type]
        elif "evaluation" in line:
            described = Evaluation(**line["evaluation"])
            self._evaluations.setdefault(described.digest, described)
        elif "sha256" in line:
            return
        elif line["format"] != _FORMAT:
            raise ValueError(line["format"])
        elif tuple(line["groups"]) != self._groups:
            raise ConfigError(
                f"{self.path} was recorded on another space: its groups are {', '.join(line['groups'][:4])}..., "
                f"this space has {', '.join(self._groups[:4])}...",
                "Name another file with the key 'table'.",
            )


class ReplayEvaluator:
    """Looks measurements up; what is not recorded is measured by the evaluator that ``otherwise`` makes, and kept.

    ``name`` is the run that asks, for messages. Without ``otherwise`` a candidate that is missing is NotFound.
    """

    def __init__(
        self, table: RecordedTable, evaluation: str, otherwise: Callable[[], Evaluator] | None, name: str
    ) -> None:
        self._table = table
        self._evaluation = evaluation
        self._otherwise = otherwise
        self._name = name
        self.measured = 0
        """Candidates that were not recorded."""

    def evaluate(self, candidate: Candidate) -> Iterator[Measurement]:
        """One final measurement, with the seconds that it took when it was recorded."""
        yield self.measure(candidate)

    def measure(self, candidate: Candidate) -> Measurement:
        found = self._table.find(self._evaluation, candidate)
        if found is None and self._otherwise is not None:
            found = self._table.lookup_again(self._evaluation, candidate)
        if found is not None:
            return found
        if self._otherwise is None:
            widths = ", ".join(f"{name} {width}" for name, width in candidate.widths.items())
            raise NotFound(
                f"{self._name}: candidate {candidate.digest} is not in {self._table.path} ({widths}).",
                "Run without --recorded-only to measure what is missing.",
            )
        self.measured += 1
        *_, last = self._otherwise().evaluate(candidate)
        return self._table.add(self._evaluation, candidate, last)


def _unpacked(path: Path) -> list[str]:
    try:
        text = gzip.decompress(path.read_bytes()).decode()
    except FileNotFoundError:
        return []
    except OSError as error:
        if isinstance(error, gzip.BadGzipFile):
            raise _no_table(path) from None
        raise StoreError(f"{path} cannot be read: {error.strerror}.") from None
    except (EOFError, ValueError, zlib.error):
        raise _no_table(path) from None
    lines = text.splitlines()
    if lines and lines[-1].startswith('{"sha256"'):
        before = text[: text.rindex(lines[-1])]
        if json.loads(lines[-1])["sha256"] != hashlib.sha256(before.encode()).hexdigest():
            raise _no_table(path)
    return lines


def _mark(body: str) -> str:
    """What stands behind a tab at the end of a line of the journal."""
    return hashlib.sha256(body.encode()).hexdigest()[:16]


def _no_table(path: Path) -> ConfigError:
    return ConfigError(
        f"{path} is not a table of recorded candidates: expected gzip of JSON lines.",
        "Name another file with the key 'table', or remove this one.",
    )


def _null(number: float) -> float | None:
    return number if math.isfinite(number) else None
