"""What a job takes along: autoprune itself, the search with all that its files said, and the user's own files.

Nothing else of the user's folders leaves this machine. A relative path means a file here, which travels; an absolute
one means a place on the cluster. Data never travel.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from autoprune.config.schema import SearchConfig
from autoprune.errors import ConfigError

__all__ = ["SUBMISSION", "archive", "own_package", "travelling", "with_neighbours"]

SUBMISSION = "submission.json"
"""In a job's folder: what it is to run. It may hold the password of a store, so it is never shown."""

_FILES = (
    ("space", "model", "path"),
    ("space", "data", "path"),
    ("space", "base", "checkpoint"),
    ("evaluator", "weights", "checkpoint"),
    ("latency", "table"),
)
"""Keys of a configuration that name a file to be read."""
_OURS = "autoprune"
_LEFT_OUT = frozenset({"__pycache__", ".git", ".mypy_cache", ".ruff_cache"})


def travelling(config: SearchConfig) -> tuple[dict[str, Any], dict[str, Path]]:
    """The configuration as it reads inside a job's folder, without its store; and the files of that folder, by name.

    Raises ConfigError for a relative path without a file, and for data that would have to travel.
    """
    content = config.model_dump(mode="json", exclude={"store"})
    files: dict[str, Path] = {}
    for keys in _FILES:
        place = _place(content, keys[:-1])
        text = place.get(keys[-1]) if place else None
        if place is None or not isinstance(text, str) or Path(text).expanduser().is_absolute():
            continue
        if not Path(text).is_file():
            raise ConfigError(
                f"{'.'.join(keys)}: there is no file {text!r} here, and a relative path travels with the job.",
                "Give the absolute path that it has on the cluster, or start from the folder that it is relative to.",
            )
        place[keys[-1]] = name = _name(text)
        files[name] = Path(text)
    _check_data(content["space"]["data"])
    return content, files


def with_neighbours(files: Mapping[str, Path], included: Iterable[str]) -> dict[str, Path]:
    """``files``, and those that the user names besides: files, or folders with all that is in them.

    Raises ConfigError for what does not exist or does not lie below the current folder.
    """
    found = dict(files)
    for text in included:
        path = Path(text)
        if path.is_absolute() or ".." in path.parts:
            raise ConfigError(f"--include {text!r} does not lie below the current folder.", "Start from its folder.")
        if not path.exists():
            raise ConfigError(f"--include {text!r}: there is no such file or folder.")
        for file in [path] if path.is_file() else sorted(_below(path)):
            found[_name(str(file))] = file
    return found


def own_package() -> dict[str, Path]:
    """autoprune as it is installed here, so that a job runs this version whatever the cluster's nodes have."""
    root = Path(__file__).resolve().parents[1]
    return {f"{_OURS}/{file.relative_to(root).as_posix()}": file for file in sorted(_below(root))}


def archive(files: Mapping[str, Path], submission: Mapping[str, Any]) -> bytes:
    """A zip archive; equal content gives equal bytes. Raises ConfigError when a file cannot be read."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, path in sorted(files.items()):
            try:
                _add(packed, name, path.read_bytes(), 0o644)
            except OSError as error:
                raise ConfigError(f"{str(path)!r} cannot be read: {error.strerror}.") from None
        _add(packed, SUBMISSION, json.dumps(dict(submission), sort_keys=True).encode(), 0o600)
    return made.getvalue()


def _add(packed: zipfile.ZipFile, name: str, content: bytes, mode: int) -> None:
    entry = zipfile.ZipInfo(name)  # of 1980: times of files would make every archive another one
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = mode << 16
    packed.writestr(entry, content)


def _place(content: dict[str, Any], keys: Iterable[str]) -> dict[str, Any] | None:
    found: Any = content
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else None


def _name(text: str) -> str:
    """Where a file lies in the job's folder: at its own relative path, unless that leads outside or hides ours."""
    parts = [part for part in PurePosixPath(Path(text).as_posix()).parts if part != "."]
    if ".." in parts or parts[0] in (_OURS, SUBMISSION):
        return f"files/{hashlib.sha256(text.encode()).hexdigest()[:8]}/{parts[-1]}"
    return "/".join(parts)


def _below(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix != ".pyc" and not _LEFT_OUT & set(path.relative_to(folder).parts):
            yield path


def _check_data(data: Mapping[str, Any]) -> None:
    root = data.get("root")
    if isinstance(root, str) and not Path(root).expanduser().is_absolute():
        raise ConfigError(
            f"space.data.root is {root!r}: data do not travel with a job, and on a cluster that is no folder.",
            "Give the folder that every node of the cluster sees, with --set space.data.root=/data/NAME.",
        )
