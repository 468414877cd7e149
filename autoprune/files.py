"""Files that are there whole or not at all, and that are known by their SHA-256 when they are read back.

torch, safetensors and NumPy read a flipped byte without a word, and a killed process or a full disk leaves half a file.
Three ways to carry a digest, by who else reads the file:

- *sealed*: the digest is the file's last line; for caches, which only autoprune reads. One file, so that content and
  digest are replaced together.
- *listed*: ``SHA256SUMS`` in a folder that a user takes away (``sha256sum -c SHA256SUMS`` checks it anywhere).
- *inside*: the key ``sha256`` of a JSON object, over all other keys; for reports and tables kept in git.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from autoprune.errors import ConfigError, StoreError

__all__ = [
    "SUMS",
    "Damaged",
    "check_listed",
    "check_sealed",
    "file_digest",
    "list_digests",
    "read_sealed",
    "replacing",
    "sealing",
    "set_aside",
    "with_digest",
    "without_digest",
    "write_text",
]

SUMS = "SHA256SUMS"
_MARK = b"\nautoprune sha256 "
_SEAL_BYTES = len(_MARK) + 64 + 1
_CHUNK = 1 << 22
_STALE_SECONDS = 24 * 3600.0


class Damaged(ConfigError):
    """A file does not hold what was written; the message is the reason alone, without the file's name."""


# --- whole or not at all ---------------------------------------------------------------------------------------------


@contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """A temporary path beside ``path``, moved onto it at the end of the block, or removed when the block fails.

    It ends like ``path``, since some writers go by the suffix. Two processes may write the same path at once: each
    replaces the whole file, and readers see one or the other. ``durable``: it is on the disk before it gets its name,
    so that a power cut leaves the old or the new file.

    Raises StoreError when it cannot be written (disk full, read-only).
    """
    try:
        _sweep(path)
        temporary = path.with_name(f".{path.stem}.{os.getpid()}.{secrets.token_hex(4)}.tmp{path.suffix}")
        try:
            yield temporary
            if durable:
                _sync(temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(
            f"{path} cannot be written: {error.strerror or error}.",
            "Free some space, or choose a folder that can be written (caches: the environment variable "
            "AUTOPRUNE_HOME), and run the same command again.",
        ) from None


def write_text(path: Path, text: str) -> None:
    """Replace a file by ``text`` in UTF-8. For reports, which can be made again: it does not wait for the disk."""
    with replacing(path, durable=False) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sweep(path: Path) -> None:
    """Remove what killed processes left of this very file a day ago or longer."""
    for left in path.parent.glob(f".{_literally(path.stem)}.*.tmp{_literally(path.suffix)}"):
        with contextlib.suppress(OSError):
            if left.stat().st_mtime < time.time() - _STALE_SECONDS:
                left.unlink()


def _literally(text: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in text)


# --- sealed ----------------------------------------------------------------------------------------------------------


@contextmanager
def sealing(path: Path) -> Iterator[Path]:
    """As ``replacing``; what the block wrote is sealed with its SHA-256."""
    with replacing(path) as temporary:
        yield temporary
        seal = _MARK + file_digest(temporary).encode() + b"\n"
        with temporary.open("ab") as file:
            file.write(seal)


def read_sealed(path: Path) -> bytes:
    """What was written, without the seal. Raises Damaged when it is not that, OSError when it cannot be read."""
    raw = path.read_bytes()
    content = raw[:-_SEAL_BYTES]
    _compare(raw[-_SEAL_BYTES:], lambda: hashlib.sha256(content).hexdigest())
    return content


def check_sealed(path: Path) -> None:
    """As ``read_sealed`` for files that are mapped rather than read: 16 MB of memory, about a second per gigabyte."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END) - _SEAL_BYTES
        file.seek(max(size, 0))
        seal = file.read()
    _compare(seal, lambda: file_digest(path, max(size, 0)))


def _compare(seal: bytes, digest: Callable[[], str]) -> None:
    if len(seal) != _SEAL_BYTES or not seal.startswith(_MARK):
        raise Damaged("it does not end with its SHA-256, so it is cut or was written by something else")
    if seal != _MARK + digest().encode() + b"\n":
        raise Damaged("its SHA-256 is not the one that it was written with")


def file_digest(path: Path, size: int | None = None) -> str:
    """SHA-256 of the first ``size`` bytes, or all, in hexadecimal."""
    digest = hashlib.sha256()
    left = path.stat().st_size if size is None else size
    with path.open("rb") as file:
        while left > 0 and (chunk := file.read(min(left, _CHUNK))):
            digest.update(chunk)
            left -= len(chunk)
    return digest.hexdigest()


def set_aside(path: Path, what: str, reason: object, then: str) -> None:
    """Rename a damaged file of a cache to ``NAME.corrupt``, for whoever wants to look at it, and warn.

    ``what`` names it ("the cached base model"), ``then`` says what follows ("It is trained again.").
    """
    aside = path.with_name(f"{path.name}.corrupt")
    kept = ""
    with contextlib.suppress(OSError):
        path.replace(aside)
        kept = f" The damaged file is now {aside.name}."
    warnings.warn(f"{what} {path} is damaged: {reason}. {then}{kept}", stacklevel=3)


# --- listed ----------------------------------------------------------------------------------------------------------


def list_digests(folder: Path) -> None:
    """Write ``SHA256SUMS`` over all files of the folder, as ``sha256sum`` would."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != SUMS)
    lines = [f"{file_digest(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def check_listed(folder: Path, needed: Sequence[str]) -> None:
    """Compare the files ``needed`` (relative names) with the folder's list; one without a list passes.

    Raises ConfigError that names the file.
    """
    path = folder / SUMS
    try:
        text = path.read_bytes().decode("ascii", "replace")
    except FileNotFoundError:
        return  # written before there were lists
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.", _AGAIN) from None
    listed = {name: digest for digest, _, name in (line.partition("  ") for line in text.splitlines())}
    for name in needed:
        try:
            digest = file_digest(folder / name)
        except OSError as error:
            raise ConfigError(f"{folder / name} cannot be read: {error.strerror}.", _AGAIN) from None
        if listed.get(name) != digest or not text.endswith("\n"):
            raise ConfigError(f"{folder / name} is damaged: its SHA-256 is not the one in {SUMS}.", _AGAIN)


_AGAIN = f"Copy the folder again, or export the model again. If you changed it on purpose, remove {SUMS}."


# --- inside ----------------------------------------------------------------------------------------------------------


def with_digest(content: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON object with its digest under ``sha256``; the order of the keys and the layout do not matter to it."""
    return {**content, "sha256": _canonical(content)}


def without_digest(content: Mapping[str, Any], *, required: bool = False) -> dict[str, Any]:
    """The object as it was, once its digest fits. Raises Damaged when it does not, or is absent and ``required``."""
    rest = {key: value for key, value in content.items() if key != "sha256"}
    if "sha256" not in content:
        if required:
            raise Damaged("its SHA-256 is missing")
    elif content["sha256"] != _canonical(rest):
        raise Damaged("its SHA-256 is not the one that it was written with")
    return rest


def _canonical(content: Mapping[str, Any]) -> str:
    plain = json.loads(json.dumps(content))  # as a reader will see it: keys are text, tuples are lists
    return hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
