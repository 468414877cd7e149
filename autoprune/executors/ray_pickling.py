"""Whether objects can travel to Ray's workers."""

from __future__ import annotations

from ray import cloudpickle

from autoprune.errors import ConfigError

__all__ = ["require_picklable"]


def require_picklable(**objects: object) -> None:
    """Raises ConfigError that names the first of ``objects`` that cannot be pickled, and why."""
    for name, value in objects.items():
        try:
            cloudpickle.dumps(value)
        except Exception as error:  # noqa: BLE001  pickling runs code of any class
            raise ConfigError(
                f"{name} cannot be sent to Ray's workers: {type(error).__name__}: {error}",
                "Run it in this process with executor='serial', or open files and connections inside the function.",
            ) from None
