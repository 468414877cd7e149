"""What a node's Python has. Sent to nodes by value, as they may lack autoprune: standard library only."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import platform

__all__ = ["look", "package_digest"]


def look() -> dict[str, str]:
    """Versions of Python and torch, the folder and the digest of autoprune; empty where there is none."""
    folder = _folder()
    return {
        "host": platform.node(),
        "python": platform.python_version(),
        "torch": _version("torch"),
        "folder": folder,
        "autoprune": package_digest(folder) if folder else "",
    }


def package_digest(folder: str) -> str:
    """Of the names and contents of a package's files, but for what Python compiles from them."""
    found = hashlib.sha256()
    for where, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        for name in sorted(names):
            path = os.path.join(where, name)
            with open(path, "rb") as file:
                content = hashlib.sha256(file.read()).hexdigest()
            found.update(f"{os.path.relpath(path, folder)} {content}\n".encode())
    return found.hexdigest()[:16]


def _folder() -> str:
    try:
        spec = importlib.util.find_spec("autoprune")
    except (ImportError, ValueError):
        return ""
    places = list((spec and spec.submodule_search_locations) or ())
    return places[0] if places and os.path.isdir(places[0]) else ""


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
