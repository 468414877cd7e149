"""Running a model with an eye on its layers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.hooks import RemovableHandle

from autoprune.errors import ConfigError
from autoprune.pruning.calibration import Batch
from autoprune.pruning.reconstruction.consumers import Consumer

__all__ = ["Structure", "observe", "require_finite", "run", "watched"]


@dataclass(frozen=True, eq=False)
class Structure:
    """What a run tells of the layers that read cut channels."""

    once: tuple[Consumer, ...]
    """Those that run once in a call."""
    norms: dict[str, str]
    """Layer -> the BatchNorm that reads its output."""
    skipped: dict[str, str]
    """The other layers -> why they cannot be fitted."""


def run(model: nn.Module, batch: Batch) -> None:
    """One call, whatever comes out."""
    if isinstance(batch, tuple):
        model(*batch)
    else:
        model(batch)


@contextmanager
def watched(handles: Iterable[RemovableHandle]) -> Iterator[None]:
    """Hooks for a while."""
    kept = list(handles)
    try:
        yield
    finally:
        for handle in kept:
            handle.remove()


@torch.no_grad()
def observe(model: nn.Module, consumers: Sequence[Consumer], batch: Batch) -> Structure:
    """Run the first item of ``batch`` through ``model`` (in eval mode)."""
    calls = {consumer.name: 0 for consumer in consumers}
    norms: dict[str, str] = {}
    made: list[tuple[str, Tensor]] = []  # kept alive: a freed tensor's id may be given to another

    def note(name: str) -> RemovableHandle:
        def hook(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
            calls[name] += 1
            made.append((name, output))

        return model.get_submodule(name).register_forward_hook(hook)

    def follow(name: str, norm: _BatchNorm) -> RemovableHandle:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            norms.update({layer: name for layer, output in made if inputs and output is inputs[0]})

        return norm.register_forward_pre_hook(hook)

    handles = [note(consumer.name) for consumer in consumers]
    handles += [follow(name, item) for name, item in model.named_modules() if isinstance(item, _BatchNorm)]
    with watched(handles):
        run(model, tuple(part[:1] for part in batch) if isinstance(batch, tuple) else batch[:1])
    skipped = {name: f"it runs {count} times in one call of the model" for name, count in calls.items() if count != 1}
    return Structure(tuple(item for item in consumers if item.name not in skipped), norms, skipped)


def require_finite(values: Tensor, layer: str) -> None:
    """Raises ConfigError that names the layer."""
    if not bool(torch.isfinite(values).all()):
        raise ConfigError(
            f"reconstruction: what layer {layer!r} of the unpruned model reads or gives is not finite.",
            "Check the checkpoint and that its input normalisation fits the data, or set evaluator.reconstruction to "
            "none.",
        )
