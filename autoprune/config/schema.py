"""The YAML files as pydantic models: every key, its default and its meaning.

Config objects are inert; ``driver/assemble.py`` turns them into working objects.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, field_serializer, field_validator, model_validator

from autoprune.config.controllers import (
    AmcControllerConfig,
    ControllerConfig,
    EagleEyeControllerConfig,
    EvolutionControllerConfig,
    NetAdaptControllerConfig,
    OptunaControllerConfig,
    RandomControllerConfig,
    UniformControllerConfig,
)
from autoprune.config.evaluation import EvaluatorConfig, HypernetWeights, InheritWeights, with_weights
from autoprune.config.executors import ExecutorConfig, RayExecutorConfig, SerialExecutorConfig, TrainingResources
from autoprune.config.expressions import parse_constraint, parse_objective
from autoprune.config.fidelity import CalibrateFidelity, FidelityConfig, FinetuneFidelity, RacingConfig, check_stopping
from autoprune.config.latency import LatencyConfig
from autoprune.config.recipes import Recipe
from autoprune.config.strict import Strict as _Strict
from autoprune.errors import ConfigError, without_password
from autoprune.types import Constraint, Objective

__all__ = [
    "AmcControllerConfig",
    "BaseConfig",
    "BuiltinModel",
    "CalibrateFidelity",
    "ControllerConfig",
    "DataConfig",
    "DigitsData",
    "EagleEyeControllerConfig",
    "EvaluatorConfig",
    "EvolutionControllerConfig",
    "ExecutorConfig",
    "FileData",
    "FileModel",
    "FinetuneFidelity",
    "FunctionData",
    "HypernetWeights",
    "ImageFolderData",
    "InheritWeights",
    "LimitsConfig",
    "ModelConfig",
    "ModuleModel",
    "NetAdaptControllerConfig",
    "OptunaControllerConfig",
    "RacingConfig",
    "RandomControllerConfig",
    "RayExecutorConfig",
    "Recipe",
    "RuleConfig",
    "SearchConfig",
    "SerialExecutorConfig",
    "SpaceConfig",
    "TorchvisionData",
    "TimmModel",
    "TorchvisionModel",
    "TrainingResources",
    "UniformControllerConfig",
]


_T = TypeVar("_T")


# --- model ---------------------------------------------------------------------------------------------------------


class BuiltinModel(_Strict):
    """One of autoprune's own small classics, by name (``resnet20``, ``vgg16_bn``, ``mobilenet_v1``...)."""

    kind: Literal["builtin"] = "builtin"
    name: str
    args: dict[str, Any] = Field({})
    """Keyword arguments of the builder beyond ``num_classes`` and ``in_channels``, which come from the data."""


class TorchvisionModel(_Strict):
    """A classifier of torchvision by name; ``weights: null`` always, weights come from ``base.checkpoint``."""

    kind: Literal["torchvision"] = "torchvision"
    name: str
    args: dict[str, Any] = Field({})


class TimmModel(_Strict):
    """A model of timm by name (optional extra ``timm``), with random weights; trained ones: ``base.checkpoint``."""

    kind: Literal["timm"] = "timm"
    name: str
    args: dict[str, Any] = Field({})


class FileModel(_Strict):
    """A user's own Python file with a function that returns an ``nn.Module``."""

    kind: Literal["file"] = "file"
    path: str
    factory: str
    args: dict[str, Any] = Field({})


class ModuleModel(_Strict):
    """A module that ``autoprune.search_module`` was given: recorded, but not kept and not to be built from here."""

    kind: Literal["module"]
    type: str
    digest: str
    """Of its parameters, buffers and layers."""
    inputs: tuple[tuple[int, ...], ...]
    """Shapes of the example's arguments."""


ModelConfig = Annotated[
    BuiltinModel | TorchvisionModel | TimmModel | FileModel | ModuleModel, Field(discriminator="kind")
]

# --- data ----------------------------------------------------------------------------------------------------------


class DigitsData(_Strict):
    """The 8x8 handwritten digits that ship inside scikit-learn: 1,797 real images, 10 classes."""

    kind: Literal["digits"] = "digits"
    search_val: float = Field(0.2, gt=0, lt=1)
    """Share of the training images carved out for the search."""
    test: float = Field(0.2, gt=0, lt=1)


class TorchvisionData(_Strict):
    """A torchvision data set; ``root`` may also be a folder with ``train/<class>/*`` and ``test/<class>/*`` images."""

    kind: Literal["cifar10", "cifar100", "mnist", "fashionmnist"]
    root: str = "data"
    download: bool = True
    search_val: float = Field(0.1, gt=0, lt=1)


class ImageFolderData(_Strict):
    """``root/train/<class>/*`` and ``root/test/<class>/*`` (or ``val`` for ``test``)."""

    kind: Literal["image_folder"]
    root: str
    image_size: int = Field(32, ge=4, le=1024)
    """Images are resized to this shorter side and centre-cropped to a square."""
    channels: Literal[1, 3] = 3
    search_val: float = Field(0.1, gt=0, lt=1)


class FileData(_Strict):
    """A function in a Python file that returns the training and the test images; ``data/user_data.py`` says how."""

    kind: Literal["file"]
    path: str
    factory: str
    args: dict[str, Any] = Field({})
    search_val: float = Field(0.1, gt=0, lt=1)


class FunctionData(_Strict):
    """What ``autoprune.search_module`` measures with: a function of the user, which knows its own data."""

    kind: Literal["function"]
    name: str
    version: str = ""
    """As the user gave it; else ``code`` tells one function from another."""
    code: str = ""
    """Digest of the function's source."""
    calibration: str = ""
    """Digest of the batches that BatchNorm is re-estimated on."""


DataConfig = Annotated[
    DigitsData | TorchvisionData | ImageFolderData | FileData | FunctionData, Field(discriminator="kind")
]

# --- base model ----------------------------------------------------------------------------------------------------


class BaseConfig(_Strict):
    """The trained network to prune: a checkpoint, or a recipe to train one (cached by digest)."""

    checkpoint: str | None = None
    recipe: Recipe = Recipe()


class RuleConfig(_Strict):
    """What a width may be, for the groups whose name matches; the last matching rule that names a key wins."""

    match: str = "*"
    """Shell pattern over group names, e.g. ``layer1.*``."""
    exclude: bool | None = None
    multiple: int | None = Field(None, ge=1)
    """Widths are multiples of this; the full width is always allowed."""
    floor: float | None = Field(None, gt=0)
    """Smallest width: a share of the channels when below 1, else a count."""


class SpaceConfig(_Strict):
    """A search space file: the model, its data, how it was trained, and which widths are allowed."""

    model: ModelConfig
    data: DataConfig
    base: BaseConfig = BaseConfig()
    rules: tuple[RuleConfig, ...] = (RuleConfig(multiple=4, floor=0.25),)


# --- the search ------------------------------------------------------------------------------------------------------


class LimitsConfig(_Strict):
    """Limits bound the search; constraints bound the model."""

    trials: int = Field(100, ge=1)
    hours: float | None = Field(None, gt=0)
    trial_seconds: float = Field(600.0, gt=0)
    """A trial that takes longer is killed and retried."""
    trial_memory_gb: float | None = Field(None, gt=0)
    """A worker whose trial holds more (10**9 bytes, what Ray shares between workers not counted) is ended, and the
    trial retried once. null: until its node runs out."""
    retries: int = Field(2, ge=0)
    """How often a trial is run again after an accident before it is FAILED."""

    @property
    def trial_memory_bytes(self) -> float:
        return float("inf") if self.trial_memory_gb is None else 1e9 * self.trial_memory_gb


class SearchConfig(_Strict):
    """A launch file: one search."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    space: SpaceConfig
    objectives: tuple[str, ...] = ("top1 max", "macs min")
    constraints: tuple[str, ...] = ()
    budget_tolerance: float = Field(0.02, gt=0, lt=1)
    """Where no cost is an objective, proposals fill [bound * (1 - tolerance), bound] of each bounded metric."""
    controller: ControllerConfig = OptunaControllerConfig()
    evaluator: EvaluatorConfig = EvaluatorConfig()
    fidelity: FidelityConfig = CalibrateFidelity()
    """``calibrate``, or ``{epochs: 4, lr: 0.01}``: every trial is fine-tuned so long, unless ASHA stops it."""
    racing: RacingConfig | None = None
    """``{}`` turns it on with its defaults. Stopped trials have estimates and never enter a front."""
    latency: LatencyConfig | None = None
    """``{table: FILE}`` or ``{measure: {}}`` make ``latency_ms`` an objective or a constraint like ``macs``."""
    executor: ExecutorConfig = RayExecutorConfig()
    limits: LimitsConfig = LimitsConfig()
    store: str = "sqlite:///results/autoprune.db"
    output: str = "results"
    """The report goes to ``<output>/<name>/``."""
    seed: int = Field(0, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _metapruning(cls, value: Any) -> Any:
        if not isinstance(value, dict) or not isinstance(evaluator := value.get("evaluator", {}), dict):
            return value
        weights = with_weights({"controller": value.get("controller"), "weights": evaluator.get("weights")})["weights"]
        return value if weights is None else {**value, "evaluator": {**evaluator, "weights": weights}}

    @field_serializer("store", when_used="json")
    def _store_as_shown(self, value: str) -> str:
        """What is stored, printed and sent has no password in it."""
        return without_password(value)

    @field_validator("objectives")
    @classmethod
    def _objectives(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not 1 <= len(value) <= 3:
            raise ValueError(f"one to three objectives are supported, got {len(value)}")
        metrics = [_parsed(parse_objective, text).metric for text in value]
        if len(set(metrics)) != len(metrics):
            raise ValueError(f"each metric may be an objective once, got {', '.join(value)}")
        return value

    @field_validator("constraints")
    @classmethod
    def _constraints(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            _parsed(parse_constraint, text)
        return value

    @model_validator(mode="after")
    def _stops_by_top1(self) -> SearchConfig:
        check_stopping(self.fidelity, self.racing, self.objectives, latency=self.latency is not None)
        return self

    @model_validator(mode="after")
    def _has_images(self) -> SearchConfig:
        if isinstance(self.evaluator.weights, HypernetWeights) and isinstance(self.space.data, FunctionData):
            raise ValueError(
                "weights of a hypernetwork need a data set to train it on; a search over a module in hand has none"
            )
        if isinstance(self.fidelity, FinetuneFidelity) and isinstance(self.space.data, FunctionData):
            raise ValueError(
                "'fidelity: finetune' needs a data set to train on; a search over a module in hand has none: "
                "train inside its metric function instead"
            )
        return self

    def parsed_objectives(self) -> tuple[Objective, ...]:
        return tuple(parse_objective(text) for text in self.objectives)

    def parsed_constraints(self) -> tuple[Constraint, ...]:
        return tuple(constraint for text in self.constraints for constraint in parse_constraint(text))

    def digest(self) -> str:
        """Identity of the search: everything that decides its proposals and numbers.

        Left out: where it runs (executor, store, output, data root) and how long (limits), so a search can be
        moved, and extended by raising ``limits.trials``.
        """
        content = self.model_dump(mode="json", exclude={"executor", "limits", "store", "output"})
        content["space"]["data"].pop("root", None)
        content["space"]["data"].pop("download", None)
        for key in ("racing", "latency"):  # searches from before there were these keep their digest
            if content[key] is None:
                del content[key]
        if isinstance(self.fidelity, CalibrateFidelity):
            del content["fidelity"]
        return _digest(content)

    def evaluation_digest(self) -> str:
        """Identity of a measurement: equal digests and equal candidates give equal metrics, whatever the search."""
        content = self.model_dump(mode="json", include={"space", "evaluator", "seed"})
        del content["space"]["rules"]
        for key in ("root", "download"):
            content["space"]["data"].pop(key, None)
        if isinstance(self.fidelity, FinetuneFidelity):
            content["fidelity"] = self.fidelity.measured()
        return _digest(content)


def _parsed(parse: Callable[[str], _T], text: str) -> _T:
    """A ConfigError as the ValueError that pydantic collects with the file's other mistakes."""
    try:
        return parse(text)
    except ConfigError as error:
        raise ValueError(str(error)) from None


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
