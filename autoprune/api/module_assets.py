"""From objects in hand to a configuration that identifies them, and to what a search needs."""

from __future__ import annotations

import copy
import functools
import hashlib
import inspect
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import CodeType
from typing import Any

import torch
from torch import Tensor, nn

from autoprune.config.loading import load_search
from autoprune.config.schema import RuleConfig, SearchConfig
from autoprune.driver.assemble_latency import with_latency
from autoprune.driver.assemble_memory import with_memory
from autoprune.driver.assemble_module import PreparedModule
from autoprune.driver.assemble_ranking import make_criterion, note_scores
from autoprune.errors import ConfigError
from autoprune.evaluators.custom import FunctionEvaluator, Metric, ModuleAssets, make_function_evaluator
from autoprune.models.checkpoint import state_digest
from autoprune.protocols import Progress
from autoprune.pruning.calibration import Batch
from autoprune.pruning.ranking import Scores, order, scores
from autoprune.pruning.statistics import collect
from autoprune.space.decoding import Decoder
from autoprune.space.space import SearchSpace
from autoprune.types import ChannelGroup

__all__ = ["Given", "prepare_module", "search_config", "with_model"]


@dataclass(frozen=True, eq=False)
class Given:
    """The user's objects, checked."""

    module: nn.Module
    """A copy in eval mode."""
    example: tuple[Tensor, ...]
    metric: Metric
    calibration: tuple[Batch, ...]

    @classmethod
    def of(
        cls,
        model: nn.Module,
        example_input: Tensor | tuple[Tensor, ...],
        metric: Metric,
        calibration: Iterable[Any] | None,
    ) -> Given:
        """Raises ConfigError for objects of the wrong kind, and when the model does not run on what it is given."""
        if not isinstance(model, nn.Module):
            raise ConfigError(f"model is a {type(model).__name__}, expected a torch.nn.Module.")
        if not callable(metric):
            raise ConfigError(f"metric is a {type(metric).__name__}, expected a function of the pruned module.")
        example = example_input if isinstance(example_input, tuple) else (example_input,)
        for argument in example:
            if not isinstance(argument, Tensor):
                raise ConfigError(
                    f"example_input is a {type(argument).__name__}, expected a tensor or a tuple of them."
                )
        module = _copied(model)
        _run(module, example, "example_input")
        batches = tuple(_batch(number, item) for number, item in enumerate(() if calibration is None else calibration))
        if batches:
            first = batches[0]
            _run(module, first if isinstance(first, tuple) else (first,), "calibration[0]")
        return cls(module, example, metric, batches)


def search_config(
    given: Given, version: str, settings: Mapping[str, Any], rules: Sequence[Mapping[str, Any] | RuleConfig] | None
) -> SearchConfig:
    """The configuration that is stored: it names the module and the function, and identifies them by digests.

    Raises ConfigError that lists every mistake in the settings.
    """
    tensors = {
        f"{number}.{place}": tensor
        for number, batch in enumerate(given.calibration)
        for place, tensor in enumerate(batch if isinstance(batch, tuple) else (batch,))
    }
    space: dict[str, Any] = {
        "model": {
            "kind": "module",
            "type": type(given.module).__name__,
            "digest": _module_digest(given.module),
            "inputs": [list(argument.shape) for argument in given.example],
        },
        "data": {
            "kind": "function",
            "name": getattr(given.metric, "__qualname__", type(given.metric).__qualname__),
            "version": version,
            "code": "" if version else source_digest(given.metric),
            "calibration": state_digest(tensors) if tensors else "",
        },
    }
    if rules is not None:
        space["rules"] = [rule.model_dump() if isinstance(rule, RuleConfig) else dict(rule) for rule in rules]
    return load_search({**settings, "space": space})


def prepare_module(config: SearchConfig, given: Given, progress: Progress) -> PreparedModule:
    """Find the module's groups, check that the budgets can be met and rank the channels.

    Raises ConfigError when there is nothing to prune, NothingFeasible when a budget is out of reach.
    """
    progress.phase("groups")
    example = given.example if len(given.example) > 1 else given.example[0]
    space = SearchSpace.from_module(given.module, example, config.space.rules)
    space = with_latency(space, config, progress, lambda: (given.module, example))
    space = with_memory(space, config, progress, lambda: (given.module, example))
    for name, reason in space.left_out.items():
        progress.note(f"group {name} is left out: {reason}")
    decoder = Decoder(
        space, config.parsed_constraints(), objectives=config.parsed_objectives(), tolerance=config.budget_tolerance
    )
    found = _scores(config, space.groups, given.module, given.calibration)
    note_scores(config, lambda: found, progress)
    assets = ModuleAssets(given.module, space.groups, order(found.values), given.calibration, given.metric)
    return PreparedModule(config, space, decoder, assets, found.replaced)


def with_model(prepared: PreparedModule, model: nn.Module) -> FunctionEvaluator:
    """An evaluator over another module of the same architecture. Raises ConfigError when it is none."""
    old, new = prepared.assets.module.state_dict(), model.state_dict()
    if {name: tensor.shape for name, tensor in old.items()} != {name: tensor.shape for name, tensor in new.items()}:
        differing = [name for name in {**old, **new} if name not in old or name not in new] or [
            name for name in old if old[name].shape != new[name].shape
        ]
        raise ConfigError(
            f"model is not of the searched architecture: {', '.join(differing[:4])} differ.",
            "Give the unpruned model, with the same layers and widths.",
        )
    module = _copied(model)
    config = prepared.config
    ranking = order(_scores(config, prepared.space.groups, module, prepared.assets.calibration).values)
    return make_function_evaluator(replace(prepared.assets, module=module, ranking=ranking))


def _scores(
    config: SearchConfig, groups: Sequence[ChannelGroup], module: nn.Module, calibration: Sequence[Batch]
) -> Scores:
    """By the weights, or by the calibration batches, which have no labels. Raises ConfigError for a criterion that
    needs what is not there."""
    criterion, fallback = make_criterion(config)
    lacking = "labels" if any(item.labels for item in criterion.needs) else "" if calibration else "calibration batches"
    if criterion.needs and lacking:
        raise ConfigError(
            f"criterion {criterion.name!r} needs {lacking}, and this search over a module in hand has none.",
            "Choose one that reads the weights alone, such as group_l2"
            + (" or activation_std, which reads calibration batches." if lacking == "labels" else ", or give them."),
        )
    known = collect(module, groups, criterion.needs, ((batch, None) for batch in calibration), seed=config.seed)
    return scores(module, groups, criterion, known, fallback=fallback)


def source_digest(function: Any) -> str:
    """16 hexadecimal digits that change when the function's text does (its code, where the text is not known)."""
    while isinstance(function, functools.partial):
        function = function.func
    if not (inspect.isroutine(function) or inspect.isclass(function)):
        function = type(function)
    try:
        text = textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError):
        code = getattr(function, "__code__", None)
        text = _code_text(code) if code is not None else repr(getattr(function, "__qualname__", function))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _module_digest(module: nn.Module) -> str:
    """Of the weights and of the layers as they print themselves (a ReLU more has no weights)."""
    text = f"{state_digest(module.state_dict())} {module!r}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _code_text(code: CodeType) -> str:
    """Without addresses, file names and line numbers."""
    constants = [_code_text(item) if isinstance(item, CodeType) else repr(item) for item in code.co_consts]
    return f"{code.co_code.hex()} {constants} {code.co_names}"


def _copied(model: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(model).eval()
    except Exception as error:  # noqa: BLE001  copying runs code of any class
        raise ConfigError(
            f"{type(model).__name__} cannot be copied: {type(error).__name__}: {error}",
            "If it uses torch.nn.utils.weight_norm or spectral_norm, take those of torch.nn.utils.parametrizations.",
        ) from None


def _batch(number: int, item: Any) -> Batch:
    parts = item if isinstance(item, tuple) else (item,)
    if not parts or not all(isinstance(part, Tensor) for part in parts):
        kinds = ", ".join(type(part).__name__ for part in parts)
        raise ConfigError(
            f"calibration[{number}] is {kinds if parts else 'empty'}, expected a tensor or a tuple of the arguments.",
            "Give inputs without labels: calibration=[images for images, labels in loader].",
        )
    detached = tuple(part.detach() for part in parts)
    return detached if isinstance(item, tuple) else detached[0]


def _run(module: nn.Module, arguments: tuple[Tensor, ...], what: str) -> None:
    try:
        with torch.no_grad():
            module(*arguments)
    except Exception as error:  # noqa: BLE001  a user's model may raise anything
        shapes = ", ".join("x".join(str(size) for size in argument.shape) or "scalar" for argument in arguments)
        reason = (str(error).strip().splitlines() or ["no message"])[0][:200]
        raise ConfigError(
            f"{type(module).__name__} does not run on {what} ({shapes}): {type(error).__name__}: {reason}",
            "Give the arguments of one call, without labels, on the device of the model.",
        ) from None
