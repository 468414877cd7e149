"""One calibration pass for all the statistics that the chosen criteria need."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn

from autoprune.errors import ConfigError
from autoprune.protocols import Statistic
from autoprune.pruning.calibration import Batch
from autoprune.pruning.statistics.base import (
    Collectable,
    Collector,
    ExampleLoss,
    Examples,
    Pass,
    Scene,
    Statistics,
    cross_entropy,
)
from autoprune.pruning.statistics.gradients import overwrites, recording
from autoprune.pruning.statistics.sources import find_sources
from autoprune.pruning.taps import arguments, evaluating, find_taps
from autoprune.types import ChannelGroup

__all__ = ["collect"]


def collect(
    model: nn.Module,
    groups: Sequence[ChannelGroup],
    statistics: Iterable[Statistic],
    batches: Iterable[Examples],
    *,
    loss: ExampleLoss = cross_entropy,
    seed: int = 0,
    on_batch: Callable[[int], None] | None = None,
) -> Statistics:
    """Run ``batches`` through the model once and add up all the statistics.

    The model runs in evaluation mode where it lies and is left as it was. How the examples are split into batches makes
    no difference beyond rounding. ``on_batch`` is told the number of examples of each. Raises ConfigError without
    examples, without labels where they are needed, and for activations that are not finite, naming the layer.
    """
    wanted = sorted((cast(Collectable, statistic) for statistic in set(statistics)), key=repr)
    if not wanted:
        return Statistics({})
    labelled = [statistic.name for statistic in wanted if statistic.labels]
    run: _Run | None = None
    with evaluating(model), torch.inference_mode(False), torch.random.fork_rng(devices=[]):
        for inputs, labels in batches:
            if labels is None and labelled:
                raise ConfigError(
                    f"there are no labels, but statistics that need them are wanted: {', '.join(labelled)}.",
                    "Choose a criterion that reads the weights or the activations alone.",
                )
            inputs, labels = _placed(model, inputs, labels)
            run = run or _Run(model, groups, wanted, inputs, loss, seed)
            run.add(inputs, labels)
            if on_batch:
                on_batch(len(arguments(inputs)[0]))
        if run is None:
            names = ", ".join(statistic.name for statistic in wanted)
            raise ConfigError(f"there are no examples to collect statistics from: {names}.", "Give at least one batch.")
        return run.result()


def _placed(model: nn.Module, inputs: Batch, labels: Tensor | None) -> tuple[Batch, Tensor | None]:
    """On the model's device, and free of inference mode."""
    device = next((tensor.device for tensor in model.parameters()), torch.device("cpu"))
    moved = tuple(item.clone() if item.is_inference() else item for item in arguments(inputs))
    moved = tuple(item.detach().to(device) for item in moved)
    return moved if isinstance(inputs, tuple) else moved[0], None if labels is None else labels.to(device)


class _Run:
    def __init__(
        self,
        model: nn.Module,
        groups: Sequence[ChannelGroup],
        wanted: Sequence[Collectable],
        example: Batch,
        loss: ExampleLoss,
        seed: int,
    ) -> None:
        taps = find_taps(model, groups, example)
        scene = Scene(model, groups, taps, example, find_sources(model, taps, example), loss, seed)
        self._scene = scene
        self._collectors: dict[Collectable, Collector] = {item: item.collector(scene) for item in wanted}
        self._differentiates = any(collector.differentiates for collector in self._collectors.values())
        self._copies = self._differentiates and overwrites(scene)
        self._examples = 0

    def add(self, inputs: Batch, labels: Tensor | None) -> None:
        scene = self._scene
        recorded = (
            recording(scene.model, scene.taps, copies=self._copies) if self._differentiates else nullcontext(None)
        )
        with ExitStack() as stack:
            for collector in self._collectors.values():
                stack.enter_context(collector.watching())
            stack.enter_context(torch.no_grad())
            gradients = stack.enter_context(recorded)
            outputs = scene.model(*arguments(inputs))
        if isinstance(outputs, Tensor) and not bool(torch.isfinite(outputs).all()):
            raise _not_finite(scene.model, inputs)
        rows = len(arguments(inputs)[0])
        batch = Pass(self._examples, rows, inputs, labels, outputs, gradients or _no_gradients)
        with torch.enable_grad():
            for collector in self._collectors.values():
                collector.add(batch)
        self._examples += rows

    def result(self) -> Statistics:
        untapped = {group.name: self._scene.taps.untapped.get(group.name, "") for group in self._scene.groups}
        found: dict[Statistic, dict[str, Any]] = {}
        for statistic, collector in self._collectors.items():
            values = collector.result()
            found[statistic] = {name: values.get(name, reason) for name, reason in untapped.items()}
        return Statistics(found)


def _no_gradients(losses: Tensor) -> Tensor:
    raise RuntimeError("a collector that asks for gradients must say that it differentiates")


def _not_finite(model: nn.Module, inputs: Batch) -> ConfigError:
    """Names the first layer that gives NaN or infinite numbers, in the order of execution."""
    if not all(bool(torch.isfinite(item).all()) for item in arguments(inputs) if item.is_floating_point()):
        return ConfigError("an example holds NaN or infinite numbers.", "Check the data and its normalisation.")
    guilty: list[str] = []

    def check(name: str, module: nn.Module) -> Callable[..., None]:
        def hook(_: nn.Module, __: object, output: object) -> None:
            if not guilty and isinstance(output, Tensor) and not bool(torch.isfinite(output).all()):
                guilty.append(f"{name!r} ({type(module).__name__})" if name else f"the model ({type(module).__name__})")

        return hook

    with ExitStack() as stack, torch.no_grad():
        for name, module in model.named_modules():
            stack.callback(module.register_forward_hook(check(name, module)).remove)
        model(*arguments(inputs))
    return ConfigError(
        f"layer {guilty[0]} gives NaN or infinite numbers on calibration examples: no channel can be scored.",
        "Check the checkpoint and that its input normalisation fits the data.",
    )
