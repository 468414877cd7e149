"""Versions of Python and of what autoprune needs, against the bounds that it was installed with."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from collections.abc import Iterator

from autoprune.api.findings import Finding

__all__ = ["packages", "version_of"]

_ALWAYS = ("torch", "torchvision", "ray", "optuna", "numpy", "sqlalchemy")
"""Named one by one; the other requirements only where something is wrong with them."""
_TOLD = "Install it anew: pip install -e . (or pip install autoprune) in an environment of its own."
_SAFE_TORCH = (2, 10)


def version_of(name: str) -> str | None:
    """The installed version; None: not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def packages() -> Iterator[Finding]:
    """Python, autoprune, its requirements and extras."""
    status = "ok" if sys.version_info >= (3, 10) else "problem"
    yield Finding("python", status, f"{platform.python_version()} ({platform.python_implementation()})", ">=3.10")
    from autoprune import __version__

    bounds, extras = _requirements()
    installed = "" if bounds else ", not installed (run from a source folder): bounds of versions are unknown"
    yield Finding("autoprune", "ok" if bounds else "warning", f"{__version__}{installed}", hint="" if bounds else _TOLD)
    for name in _ALWAYS:
        yield _package(name, bounds.get(name, ""))
    others = [_package(name, bound) for name, bound in bounds.items() if name not in _ALWAYS]
    yield from (item for item in others if item.status != "ok")
    yield from _old_torch()
    for extra, names in extras.items():
        missing = [name for name in names if version_of(name) is None]
        told = f"not installed: {', '.join(missing)}" if missing else "installed"
        yield Finding(f"extra {extra}", "ok", told, hint=f"pip install 'autoprune[{extra}]'" if missing else "")


def _package(name: str, bound: str) -> Finding:
    found = version_of(name)
    if found is None:
        return Finding(name, "problem", "not installed", bound or "installed", _TOLD)
    fits = not bound or _fits(found, bound)
    return Finding(name, "ok" if fits else "problem", found, bound, "" if fits else _TOLD)


def _fits(version: str, bound: str) -> bool:
    try:
        from packaging.specifiers import SpecifierSet
    except ImportError:
        return True
    return SpecifierSet(bound).contains(version, prereleases=True)


def _requirements() -> tuple[dict[str, str], dict[str, list[str]]]:
    """Name -> bound of what is always needed, and extra -> names, as the installed package declares them."""
    try:
        declared = importlib.metadata.requires("autoprune") or []
        from packaging.requirements import Requirement
    except (importlib.metadata.PackageNotFoundError, ImportError):
        return {}, {}
    bounds: dict[str, str] = {}
    extras: dict[str, list[str]] = {}
    for text in declared:
        requirement = Requirement(text)
        extra = next((name for name in ("onnx", "timm", "postgres") if f'"{name}"' in str(requirement.marker)), None)
        if requirement.marker is None:
            bounds[requirement.name.lower()] = str(requirement.specifier)
        elif extra is not None:
            extras.setdefault(extra, []).append(requirement.name)
    return bounds, extras


def _old_torch() -> Iterator[Finding]:
    found = (version_of("torch") or "").partition("+")[0].split(".")
    if len(found) >= 2 and all(part.isdecimal() for part in found[:2]) and tuple(map(int, found[:2])) < _SAFE_TORCH:
        yield Finding(
            "checkpoints",
            "warning",
            f"torch {'.'.join(found)}: a way around weights_only is reported for versions before 2.10 (CVE-2026-24747)",
            "torch>=2.10",
            "Upgrade torch, or read only checkpoints of people whom you trust.",
        )
