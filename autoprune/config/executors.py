"""Where trials run, and what each is given."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator

from autoprune.config.strict import Strict

__all__ = ["ExecutorConfig", "RayExecutorConfig", "SerialExecutorConfig", "TrainingResources"]


def _whole_or_share(value: float) -> float:
    if value < 0 or (value > 1 and value != int(value)):
        raise ValueError("expected a share of one GPU (0.25) or whole ones (0, 1, 2)")
    return value


def _own_resource(name: str) -> str:
    if name.lower() in ("cpu", "gpu", "memory", "object_store_memory") or not name.strip():
        raise ValueError(f"{name!r} is no custom resource: cpus, gpus and memory have keys of their own")
    return name


GpuShare = Annotated[float, AfterValidator(_whole_or_share)]
ResourceName = Annotated[str, AfterValidator(_own_resource)]
PositiveAmount = Annotated[float, Field(gt=0)]


class SerialExecutorConfig(Strict):
    """One trial after another in this process."""

    kind: Literal["serial"] = "serial"


class TrainingResources(Strict):
    """What one training is given: a run of ``compare`` or ``audit``, a trial of ``fidelity: {epochs: N}``."""

    cpus: float | None = Field(None, gt=0)
    """null: ``cpus_per_trial``."""
    gpus: float | Literal["auto"] = "auto"
    """``auto``: one where the cluster has GPUs, else none. 0: train on processors."""
    resources: dict[ResourceName, PositiveAmount] | None = None
    """null: ``resources_per_trial``."""

    @field_validator("gpus")
    @classmethod
    def _gpus(cls, value: float | str) -> float | str:
        return _whole_or_share(value) if isinstance(value, float) else value


class RayExecutorConfig(Strict):
    """Ray Tune with long-lived actors."""

    kind: Literal["ray"] = "ray"
    max_parallel: int | Literal["auto"] = "auto"
    """Trials at once; ``auto``: as many as fit the cluster's nodes, those that join later included."""
    address: str | None = None
    """``auto``, ``host:port`` or ``ray://host:10001`` joins a running cluster; null starts a local one."""
    cpus_per_trial: float = Field(1.0, gt=0)
    gpus_per_trial: GpuShare = 0.0
    """Of a trial that calibrates. Only a ``metric`` function of yours has use for them: inherited weights are measured
    on processors."""
    resources_per_trial: dict[ResourceName, PositiveAmount] = Field({})
    """Custom resources of Ray (``ray start --resources``), such as ``{fast_disk: 1}``: trials run where they are."""
    object_store_gb: float = Field(0.5, ge=0)
    """Images to train on, of more than so many 10**9 bytes as decoded, do not go through Ray's object store: each node
    reads ``data.root``, which all must see, and keeps them in its own cache. What a trial calibrates on and is scored
    by is small, and always sent."""
    training: TrainingResources = TrainingResources()
    """In place of the above where a trial is a training."""

    @field_validator("max_parallel")
    @classmethod
    def _positive(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < 1:
            raise ValueError("max_parallel must be 'auto' or at least 1")
        return value

    @field_validator("address")
    @classmethod
    def _address(cls, value: str | None) -> str | None:
        if value is None or value == "auto":
            return value
        host, _, port = value.removeprefix("ray://").partition("/")[0].rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise ValueError("expected auto, host:port or ray://host:port")
        return value


ExecutorConfig = Annotated[SerialExecutorConfig | RayExecutorConfig, Field(discriminator="kind")]
