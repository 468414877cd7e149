"""From what a user says to the setting of a procedure, and from its end to an exported model."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from autoprune import __version__
from autoprune.api.exporting import require_same
from autoprune.api.stores import open_at, store_url
from autoprune.config.expressions import parse_constraint
from autoprune.config.loading import load_search
from autoprune.config.reading import read_yaml
from autoprune.config.schema import InheritWeights, SearchConfig
from autoprune.data.shapes import shape_and_classes
from autoprune.driver.assemble import Prepared, make_space
from autoprune.errors import ConfigError, did_you_mean
from autoprune.exporters.bundle import save_bundle
from autoprune.exporters.description import Description
from autoprune.models import registry
from autoprune.procedures.engine import Procedure
from autoprune.procedures.phases import Preset
from autoprune.procedures.progress import Course
from autoprune.procedures.scoring import require_applicable
from autoprune.procedures.setting import Setting
from autoprune.procedures.tables import TABLES
from autoprune.procedures.tables import table as table_named
from autoprune.space.decoding import METRICS
from autoprune.training.base import fresh_model
from autoprune.training.scoring import normalise
from autoprune.types import Constraint, SearchRecord

__all__ = ["check_network", "checked_budgets", "config_of", "export", "searched", "setting_of"]

_REAL_IMAGES = 8
_NOT_SET = {"seed": "Say --seed N.", "epochs": "Say --epochs N.", "preset": "Name the settings themselves."}


def checked_budgets(chosen: Preset, texts: Sequence[str], table: str | None) -> tuple[Constraint, ...]:
    """Upper bounds on costs. Raises ConfigError for anything else, when neither or both of budget and table are given,
    and for a table that the procedure has no use for."""
    if table and not chosen.takes_tables:
        raise ConfigError(
            f"{chosen.name} finds out by itself how much leaves each layer, so it takes no table.",
            "Give it a budget such as --budget 'macs <= 0.5 * baseline', or take li2016.",
        )
    if bool(texts) == bool(table):
        got = "both" if texts else "neither"
        raise ConfigError(
            f"expected either a budget or a table, got {got}.",
            "For example --budget 'macs <= 0.5 * baseline', or --table " + " / ".join(TABLES) + ".",
        )
    budgets = tuple(item for text in texts for item in parse_constraint(text))
    for item in budgets:
        if item.metric not in METRICS:
            raise ConfigError(
                f"budget {str(item)!r}: {item.metric!r} is no cost that a procedure can aim at.",
                did_you_mean(item.metric, METRICS),
            )
        if item.op != "<=":
            raise ConfigError(f"budget {str(item)!r} is a lower bound; a procedure prunes until costs are below one.")
    return budgets


def searched(name: str, store: str | None, overrides: Sequence[str]) -> SearchRecord:
    """The stored search whose space is pruned. Raises NotFound, or ConfigError when no procedure can be beside it."""
    if overrides:
        raise ConfigError("--set changes a file; a stored search is as it is.", "Leave --set or --search out.")
    with open_at(store_url(store), read_only=True) as opened:
        record = opened.search(name)
    config = load_search(record.config)
    if config.space.model.kind == "module":
        raise ConfigError(
            f"search {name!r} was over a module in hand: there are no images to train on.",
            "Take a search from a launch file, which names model and data.",
        )
    if not isinstance(config.evaluator.weights, InheritWeights):
        raise ConfigError(
            f"search {name!r} took its weights from a hypernetwork, whose accuracies compare to nothing else.",
            "Take a search with weights: {kind: inherit}.",
        )
    return record


def config_of(
    source: str | Path | Mapping[str, Any] | SearchConfig | None,
    overrides: Sequence[str],
    budgets: Sequence[Constraint],
    *,
    searched: bool,
) -> SearchConfig:
    """The search that the procedure stands in for: its base model, images and evaluation, with these budgets.

    What only matters to a search is left out: controller, objectives, latency, other budgets.
    """
    content = _launch(source) if isinstance(source, str | Path | Mapping) else source
    config = load_search(content, overrides)  # type: ignore[arg-type]
    changed: dict[str, Any] = {"constraints": tuple(map(str, budgets)), "objectives": ("top1 max", "macs min")}
    if not searched:
        weights = config.evaluator.weights
        inherited = config.evaluator.model_copy(update={"weights": InheritWeights()})
        changed["latency"] = None
        changed["evaluator"] = config.evaluator if isinstance(weights, InheritWeights) else inherited
    return config.model_copy(update=changed)


def check_network(chosen: Preset, config: SearchConfig) -> None:
    """Raises ConfigError when the procedure cannot prune this architecture, before its base model is trained."""
    shape, classes = shape_and_classes(config.space.data)
    module = registry.build(config.space.model, num_classes=classes, in_channels=shape[0]).eval()
    require_applicable(chosen, module, make_space(config.space).groups, shape)


def _launch(source: str | Path | Mapping[str, Any]) -> str | Path | Mapping[str, Any]:
    """A space file as the launch file that names it."""
    content = source if isinstance(source, Mapping) else read_yaml(Path(source)).data
    if "space" in content or "model" not in content:
        return source
    stem = "pruned" if isinstance(source, Mapping) else re.sub(r"[^A-Za-z0-9._-]", "-", Path(source).stem)
    return {"name": stem.lstrip("._-") or "pruned", "space": source if isinstance(source, Mapping) else str(source)}


def setting_of(
    chosen: Preset,
    prepared: Prepared,
    record: SearchRecord | None,
    *,
    table: str | None,
    recipe: Sequence[str],
    epochs: float | None,
    trains: bool,
    seed: int,
) -> Setting:
    """Raises Conflict when base model or images are not those of the search, ConfigError for a table or a setting."""
    if record is not None:
        require_same(record, prepared)
    config, space, data = prepared.config, prepared.space, prepared.dataset
    base, evaluation = config.space.base, config.evaluator
    groups = {group.name: group.units for group in space.groups}
    scaled = base.recipe.epochs / chosen.trained_for if chosen.trained_for else 1.0
    return Setting(
        base=prepared.base.module,
        groups=space.groups,
        allowed={item.name: item.allowed for item in space.dimensions},
        cost=space.cost,
        budgets=tuple(prepared.decoder.constraints),
        dataset=data,
        scored=data.search_val.take(evaluation.validation_images, config.seed),
        calibration=data.train.take(evaluation.calibration_images, config.seed),
        batch_size=evaluation.batch_size,
        recipe=base.recipe,
        identity=_identity(prepared),
        fresh=None if base.checkpoint else lambda: fresh_model(config.space, data),
        shares=None if table is None else table_named(table, groups).shares,
        overrides=_settings(config, recipe),
        factor=scaled if epochs is None else epochs / chosen.last_epochs,
        trains=trains,
        seed=seed,
    )


def _settings(config: SearchConfig, texts: Sequence[str]) -> dict[str, Any]:
    """Settings of a recipe by name, checked as those of the base model's are."""
    keys = [text.partition("=")[0].strip() for text in texts]
    for key in keys:
        if key in _NOT_SET:
            raise ConfigError(f"--recipe {key}=...: that is no setting of a procedure's trainings.", _NOT_SET[key])
    changed = load_search(config, [f"space.base.recipe.{text}" for text in texts]).space.base.recipe
    content = changed.model_dump(mode="json")
    return {key: content.get(key, getattr(changed, key)) for key in keys}


def _identity(prepared: Prepared) -> str:
    """Of what the configuration does not tell: base weights, images, and on which of them is measured."""
    config, data = prepared.config, prepared.dataset
    evaluation = config.evaluator
    parts = [
        prepared.base.digest,
        data.train.digest,
        data.search_val.digest,
        f"{evaluation.calibration_images} {evaluation.validation_images} {evaluation.batch_size} {config.seed}",
        f"{config.space.base.checkpoint is None} {config.space.base.recipe.seed}",
        ",".join(item.name for item in prepared.space.dimensions),
    ]
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]


def export(
    course: Course,
    procedure: Procedure,
    label: str,
    prepared: Prepared,
    record: SearchRecord | None,
    folder: Path,
    licence: str,
) -> Path:
    """Write the final network as ``select --export`` writes a trial; what made it and what is left stand beside it."""
    data = prepared.dataset
    description = Description(
        model=prepared.config.space.model,
        num_classes=data.num_classes,
        input_shape=data.image_shape,
        mean=data.mean,
        std=data.std,
        class_names=data.class_names,
        widths=course.standing.widths,
        metrics=course.metrics,
        baseline=course.baseline,
        origin={
            "preset": label,
            **({} if record is None else {"search": record.name}),
            "procedure": procedure.content(),
            "procedure_digest": procedure.digest,
            "kept_units": {name: units.tolist() for name, units in course.standing.kept.items()},
            "base_digest": prepared.base.digest,
            "autoprune": __version__,
            "torch": version("torch"),
        },
        data=data.name or "unknown",
        licence=licence,
    )
    module = course.standing.module.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    images = data.search_val.take(_REAL_IMAGES, prepared.config.seed).images
    real = (normalise(torch.tensor(images), data.mean, data.std),)
    return save_bundle(folder, module.requires_grad_(False), description, samples=[real])
