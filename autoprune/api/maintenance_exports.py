"""Exported models that lie beside a store, against the SHA-256 that each was written with."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO

from autoprune.api.findings import Finding
from autoprune.api.stores import store_file
from autoprune.errors import ConfigError
from autoprune.files import SUMS, Damaged, check_listed, file_digest, without_digest

__all__ = ["export_findings"]

_BLOCK = 1 << 20
_MOST_DESCRIPTION = 16 << 20
_CHANGED = "it is not what it was when it was written."
_HINT = "Delete it and export the trial again."


def export_findings(url: str) -> Iterator[Finding]:
    """One finding for each file that is damaged, and one for all the others; nothing where there are no exports."""
    try:
        folder = store_file(url).parent / "exports"
    except ConfigError:  # a store that is no file
        return
    checked, bad = 0, 0
    for path, said in _damaged(folder):
        checked += 1
        if said:
            bad += 1
            yield Finding("exports", "problem", f"{path.name}: {said}", "the SHA-256 that it was written with", _HINT)
    if checked and not bad:
        yield Finding("exports", "ok", f"{checked} exported models have the SHA-256 that they were written with")


def _damaged(folder: Path) -> Iterator[tuple[Path, str]]:
    """Each zip file of a server and each folder with a model, and what is wrong with it."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.suffix == ".zip":
            yield path, _in_archive(path)
        elif (path / "model.json").is_file():
            yield path, _in_folder(path)


def _in_archive(path: Path) -> str:
    try:
        if (expected := _described(path.with_suffix(".json"))) is not None:
            return "" if file_digest(path) == expected else _CHANGED
        with zipfile.ZipFile(path) as archive:  # of an earlier version
            if (name := archive.testzip()) is not None:
                return f"{name} is damaged."
            return _compared(archive.open) if "model.json" in archive.namelist() else ""
    except (OSError, zipfile.BadZipFile) as error:
        return f"it cannot be read: {error}."
    except Damaged as error:
        return f"what is said of it is damaged: {error}."


def _described(path: Path) -> str | None:
    """The digest of a server's export, which stands beside it; None where there is none. Raises Damaged, OSError."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise Damaged(f"it is no JSON ({error})") from None
    found = without_digest(content).get("file") if isinstance(content, dict) else None
    return None if found is None else str(found)


def _in_folder(folder: Path) -> str:
    try:
        lines = (folder / SUMS).read_text("utf-8", "replace").splitlines()
        check_listed(folder, [line.partition("  ")[2] for line in lines])
    except FileNotFoundError:  # of an earlier version
        return _compared(partial(_member, folder))
    except ConfigError as error:
        return error.message
    except OSError as error:
        return f"it cannot be read: {error}."
    return ""


def _member(folder: Path, name: str) -> IO[bytes]:
    return (folder / name).open("rb")


def _compared(member: Callable[[str], IO[bytes]]) -> str:
    try:
        with member("model.json") as file:
            weights = json.loads(file.read(_MOST_DESCRIPTION))["weights"]
        name, expected = Path(str(weights["file"])).name, str(weights["sha256"])
        found = hashlib.sha256()
        with member(name) as file:
            while block := file.read(_BLOCK):
                found.update(block)
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"it cannot be read: {error}."
    return "" if found.hexdigest() == expected else f"{name} is not what it was when it was written."
