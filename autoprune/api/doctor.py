"""``autoprune doctor``: whether this machine has what a search needs, and what to do where it has not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from autoprune.api import doctor_accelerators, doctor_machine, doctor_packages, doctor_services
from autoprune.api.findings import Finding, Findings
from autoprune.errors import AutopruneError

__all__ = ["doctor"]

Check = Callable[[], Iterable[Finding]]


def doctor(
    store: str | None = None,
    *,
    address: str | None = None,
    ray: bool = False,
    full: bool = False,
    progress: Callable[[str], None] = lambda text: None,
) -> Findings:
    """Look at packages, processors, memory, disks, GPUs, kernels, Ray, the store and the cache.

    Args:
        address: of a Ray cluster to be joined.
        ray: start a local Ray cluster (some seconds).
        full: import torch and torchvision too, which is otherwise done only where there is a GPU; implies ``ray``.

    Never raises for what it finds missing: that is a finding.
    """
    checks: dict[str, Check] = {
        "packages": doctor_packages.packages,
        "processor": doctor_machine.processor,
        "memory": doctor_machine.memory,
        "accelerators": lambda: doctor_accelerators.accelerators(full=full),
        "kernels": doctor_accelerators.kernels,
        "cache": doctor_machine.cache,
        "store": lambda: doctor_services.store_health(store),
        "ray": lambda: doctor_services.ray_health(address, start=ray or full),
    }
    items: list[Finding] = []
    for name, check in checks.items():
        progress(name)
        items += _said(name, check)
    return Findings.of(items)


def _said(name: str, check: Check) -> Iterator[Finding]:
    """The findings; a check that breaks is one of them."""
    try:
        yield from check()
    except AutopruneError as error:
        yield Finding(name, "problem", error.message, "", error.hint)
    except Exception as error:  # noqa: BLE001 (a broken installation breaks in any way)
        text = f"it could not be looked at: {type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"
        yield Finding(name, "problem", text, "an answer", "Install autoprune anew in an environment of its own.")
