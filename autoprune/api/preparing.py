"""Training what a search needs before its first trial: the base model, and the hypernetwork where it uses one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoprune.driver.observers import Silent

if TYPE_CHECKING:
    from autoprune.config.schema import SearchConfig
    from autoprune.protocols import Progress

__all__ = ["PreparedNetwork", "prepare"]


@dataclass(frozen=True)
class PreparedNetwork:
    """One network that searches over this space find ready from now on."""

    what: str
    """``base model`` or ``hypernetwork``."""
    path: Path
    """The file with its weights."""
    digest: str
    """Of the weights."""
    parameters: int
    trained: bool
    """This call trained it; False: it was there."""
    seconds: float
    """What it took: the training, including earlier parts of one that was cut, or the reading."""


def prepare(
    config: str | Path | Mapping[str, Any] | SearchConfig,
    *,
    overrides: Sequence[str] = (),
    progress: Progress | None = None,
) -> tuple[PreparedNetwork, ...]:
    """Train, or find in the cache, the networks of a launch file's search: the base model, then the hypernetwork.

    A call that was cut goes on where it last saved. Raises ConfigError, NothingFeasible when a budget is out of reach,
    SearchAborted when a training diverges.
    """
    from autoprune.config.loading import load_search
    from autoprune.driver import assemble
    from autoprune.training.base import base_path

    loaded = load_search(config, overrides)
    prepared = assemble.prepare(loaded, progress or Silent())
    base, made = prepared.base, prepared.hypernet
    path = base_path(loaded.space, prepared.dataset)
    networks = [("base model", path, base.digest, base.module, base.trained, base.seconds)]
    if made is not None:
        networks.append(("hypernetwork", made.path, made.digest, made.network, made.trained, made.seconds))
    return tuple(
        PreparedNetwork(what, path, digest, sum(item.numel() for item in module.parameters()), trained, seconds)
        for what, path, digest, module, trained, seconds in networks
    )
