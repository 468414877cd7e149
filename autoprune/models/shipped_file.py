"""A user's model file on machines that do not have it: its source travels, and is written down while it is run."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from autoprune.config.schema import FileModel, ModelConfig
from autoprune.errors import ConfigError

__all__ = ["ShippedFile", "at_hand", "make_with_file", "shipped_file"]

_MOST_BYTES = 20 * 2**20
_T = TypeVar("_T")


@dataclass(frozen=True)
class ShippedFile:
    """The file that a configuration names, and what it imports from beside it."""

    path: str
    """As the configuration has it."""
    sources: Mapping[str, bytes]
    """Path below the file's folder -> content."""


_received: dict[str, ShippedFile] = {}
"""By the path in the configuration; filled in worker processes only."""


def shipped_file(config: ModelConfig) -> ShippedFile | None:
    """What a worker elsewhere needs to build the model, which this process has built before; None: nothing.

    These are the file and the Python modules in and below its folder that were imported, but for installed ones. Other
    files that the factory reads do not travel. Raises ConfigError when all that is over 20 MiB.
    """
    if not isinstance(config, FileModel):
        return None
    path = Path(config.path).expanduser().resolve()
    found = {path, *_imported_below(path.parent)}
    if sum(each.stat().st_size for each in found) > _MOST_BYTES:
        raise ConfigError(
            f"model.path: {config.path} and the modules that it imports from its folder are over 20 MiB.",
            "Put it into a folder of its own, or on a disk that all nodes share.",
        )
    return ShippedFile(config.path, {each.relative_to(path.parent).as_posix(): each.read_bytes() for each in found})


def make_with_file(file: ShippedFile, make: Callable[[Any], _T], assets: Any) -> _T:
    """``make(assets)`` where the model's file may be missing. For executors, with the first two arguments bound."""
    _received[file.path] = file
    return make(assets)


@contextmanager
def at_hand(path: str) -> Iterator[Path]:
    """Where the file is that a configuration names: its own place; a temporary folder for one that was received."""
    file = _received.get(path)
    if file is None:
        yield Path(path).expanduser()
        return
    with tempfile.TemporaryDirectory(prefix="autoprune-model-") as folder:
        for name, content in file.sources.items():
            target = Path(folder, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        yield Path(folder, Path(path).name)


def _imported_below(folder: Path) -> Iterator[Path]:
    own = Path(__file__).resolve().parents[1]
    for module in list(sys.modules.values()):
        name = getattr(module, "__file__", None)
        if not isinstance(name, str) or not name.endswith(".py"):
            continue
        path = Path(name).resolve()
        installed = {"site-packages", "dist-packages"} & set(path.parts)
        if folder in path.parents and own not in path.parents and not installed and path.is_file():
            yield path
