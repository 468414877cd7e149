"""The file of ``autoprune store export``: JSON Lines that are whole or refused.

The first line says what it is and how much follows, then comes one record a line (``store/transfer.py``), and the last
line has the counts again and the SHA-256 of all bytes before it. Numbers that JSON lacks are written
``{"$float": "NaN"}``, ``"Infinity"`` or ``"-Infinity"``. Compressed by gzip or not; equal records give equal bytes.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from autoprune.errors import ConfigError, NotFound

__all__ = ["LONGEST", "counted", "read_lines", "verify", "write_lines"]

LONGEST = 32 << 20
"""Bytes of one line."""
_FORMAT = "autoprune searches"
_VERSION = 1
_FLOAT = "$float"
_FLOATS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_BAD = "Export the searches again, or copy the file again; nothing was imported."


# --- writing ---------------------------------------------------------------------------------------------------------


def write_lines(
    path: Path, records: Iterable[Mapping[str, Any]], *, compress: bool, version: str, progress: Callable[[int], None]
) -> Counter[str]:
    """Write the records, of which the first has the counts, between head and foot; how many of each kind.

    ``progress`` is called with the number of trials so far. Raises OSError.
    """
    counts: Counter[str] = Counter()
    digest = hashlib.sha256()
    with _writing(path, compress) as file:
        for record in records:
            if "counts" in record:
                line = _line({"format": _FORMAT, "version": _VERSION, "autoprune": version, **record["counts"]})
            else:
                line = _line(record)
                counts.update(record.keys())
                if counts["trial"] % 1000 == 0:
                    progress(counts["trial"])
            digest.update(line)
            file.write(line)
        file.write(_foot(counts, digest.hexdigest()))
    return counts


@contextmanager
def _writing(path: Path, compress: bool) -> Iterator[IO[bytes]]:
    with path.open("wb") as raw:
        if not compress:
            yield raw
            return
        # without a name and a time: the same records give the same bytes
        with gzip.GzipFile("", "wb", compresslevel=6, fileobj=raw, mtime=0) as packed:
            yield cast(IO[bytes], packed)


def _foot(counts: Mapping[str, int], digest: str) -> bytes:
    return _line({"end": dict(sorted(counts.items())), "sha256": digest})


def _line(content: Mapping[str, Any]) -> bytes:
    try:
        text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    except ValueError:
        text = json.dumps(_spelled(content), allow_nan=False, separators=(",", ":"))
    return text.encode("ascii") + b"\n"


def _spelled(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _spelled(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_spelled(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {_FLOAT: "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"}
    return value


# --- reading ---------------------------------------------------------------------------------------------------------


def verify(path: Path) -> dict[str, Any]:
    """The head of a file that is whole. Raises NotFound, and ConfigError for any other file: nothing is decoded but
    the first line."""
    digest, before = hashlib.sha256(), b""
    head: dict[str, Any] = {}
    for number, line in enumerate(_raw(path), 1):
        if number == 1:
            head = _head(path, line)
        if before:
            digest.update(before)
        before = line
    try:
        end = json.loads(before)["end"]
        whole = before == _foot({str(kind): int(count) for kind, count in end.items()}, digest.hexdigest())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ConfigError(
            f"{path} is not whole: its last line is not the end that an export writes, with counts and SHA-256.", _BAD
        ) from None
    if not whole:
        raise ConfigError(f"{path} is damaged: its content has another SHA-256 than its last line says.", _BAD)
    if (end.get("search", 0), end.get("trial", 0)) != (head["searches"], head["trials"]):
        raise ConfigError(f"{path} is damaged: its first and its last line count differently.", _BAD)
    return head


def _head(path: Path, line: bytes) -> dict[str, Any]:
    try:
        head = json.loads(line)
    except (ValueError, RecursionError):
        head = None
    if not isinstance(head, dict) or head.get("format") != _FORMAT:
        raise ConfigError(
            f"{path} is no export of searches: its first line is {line[:60]!r}, expected a JSON object with "
            f'"format": "{_FORMAT}".',
            "Write one with: autoprune store export --to FILE.jsonl",
        )
    if head.get("version") != _VERSION:
        raise ConfigError(
            f"{path} has version {head.get('version')!r} of the format; this autoprune reads version {_VERSION}.",
            f"It was written by autoprune {head.get('autoprune')}: use that version, or a newer one.",
        )
    if not all(type(head.get(key)) is int and head[key] >= 0 for key in ("searches", "trials")):
        raise ConfigError(f"{path}: its first line does not count searches and trials.", _BAD)
    return head


def read_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """Line number and content of each record of a file that was verified. Raises ConfigError."""
    for number, line in enumerate(_raw(path), 1):
        if number > 1 and not line.startswith(b'{"end":'):
            yield number, _decoded(path, number, line)


def _decoded(path: Path, number: int, line: bytes) -> Any:
    try:
        return json.loads(line, parse_constant=_refused, object_hook=_unspelled if b'"$float"' in line else None)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}, line {number}: not understood: {error}.", _BAD) from None


def _refused(text: str) -> None:
    raise ValueError(f'{text} is no JSON; expected {{"{_FLOAT}": "{text}"}}')


def _unspelled(value: dict[str, Any]) -> Any:
    known = value.get(_FLOAT) if len(value) == 1 else None
    return _FLOATS[known] if isinstance(known, str) and known in _FLOATS else value


def _raw(path: Path) -> Iterator[bytes]:
    """The lines of a file, compressed or not, each with its end. Raises NotFound and ConfigError."""
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            lines = gzip.GzipFile(fileobj=file, mode="rb") if packed else file
            while line := lines.readline(LONGEST + 1):
                if len(line) > LONGEST:
                    raise ConfigError(f"{path} has a line of more than {LONGEST >> 20} MiB.", _BAD)
                yield line
    except FileNotFoundError:
        raise NotFound(f"there is no file {path}.", "Write one with: autoprune store export --to FILE.jsonl") from None
    except IsADirectoryError:
        raise ConfigError(f"{path} is a folder; expected a file that 'autoprune store export' wrote.") from None
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.", _BAD) from None


def counted(counts: Mapping[str, int]) -> str:
    """
    >>> counted({"search": 2, "trial": 1, "audit": 0})
    '2 searches, 1 trial'
    """
    plural = {"search": "searches", "point": "points of presets"}
    words = [
        f"{count} {kind if count == 1 else plural.get(kind, kind + 's')}" for kind, count in counts.items() if count
    ]
    return ", ".join(words) or "nothing"
