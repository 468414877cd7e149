"""A user's own network or data: a Python file and the name of a function in it."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from autoprune.config.schema import FileData, FileModel
from autoprune.errors import ConfigError, did_you_mean
from autoprune.models.shipped_file import at_hand

__all__ = ["build_from_file", "call_factory"]


def build_from_file(config: FileModel, *, num_classes: int, in_channels: int) -> nn.Module:
    """Call ``factory(**args)`` of the file; ``num_classes`` and ``in_channels`` are passed where it takes them.

    The file's folder is importable while it runs, so it may import its neighbours. Raises ConfigError when the file
    is missing, fails (with exception and line), lacks the factory, or returns something that is not an nn.Module.
    """
    offered = {"num_classes": num_classes, "in_channels": in_channels}
    model = call_factory("model", config, offered)
    if not isinstance(model, nn.Module):
        raise ConfigError(
            f"model.factory: {config.factory}() of {Path(config.path).expanduser()} returned {type(model).__name__}, "
            "expected torch.nn.Module.",
            "Return the model itself, with random weights; trained ones are named in base.checkpoint.",
        )
    return model


def call_factory(key: str, config: FileModel | FileData, offered: Mapping[str, Any]) -> Any:
    """What ``factory(**args)`` of the user's file returns; ``offered`` arguments are passed where it takes them.

    ``key`` is where the file stands in the configuration, for messages. Raises ConfigError when the file is missing,
    fails (with exception and line) or lacks the factory.
    """
    with at_hand(config.path) as path:
        if not path.is_file():
            raise ConfigError(
                f"{key}.path: there is no file {config.path!r} (looked for {path.absolute()}).",
                "Give the path of a Python file, relative to the folder you are in.",
            )
        hint = f"Correct the file or {key}.args."
        module = _guarded(path, "cannot be imported", hint, lambda: _imported(path))
        factory = getattr(module, config.factory, None)
        if not callable(factory):
            raise ConfigError(
                f"{key}.factory: {path} has no function {config.factory!r}.", did_you_mean(config.factory, _own(module))
            )
        arguments = {**_accepted(factory, offered), **config.args}
        return _guarded(path, f"fails in {config.factory}()", hint, lambda: factory(**arguments))


def _imported(path: Path) -> ModuleType:
    name = "autoprune_user_" + hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError("it is not a Python file")
    module = importlib.util.module_from_spec(spec)
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    sys.modules[name] = module  # dataclasses and pickling inside the file look their module up
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        sys.path.remove(folder)
    return module


def _guarded(path: Path, what: str, hint: str, action: Callable[[], Any]) -> Any:
    """The user's code may raise anything: say which exception and on which of the file's lines."""
    try:
        return action()
    except ConfigError:
        raise
    except Exception as error:  # noqa: BLE001
        line = _line(path, error)
        where = f"{path}:{line}" if line else str(path)
        text = error.msg if isinstance(error, SyntaxError) else str(error)
        raise ConfigError(f"{where} {what}: {type(error).__name__}: {text}", hint) from None


def _line(path: Path, error: Exception) -> int | None:
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return error.lineno
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return lines[-1] if lines else None


def _own(module: ModuleType) -> list[str]:
    """Public callables that the file itself defines."""
    return [
        name
        for name, value in vars(module).items()
        if callable(value) and not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]


def _accepted(factory: Callable[..., Any], offered: Mapping[str, Any]) -> dict[str, Any]:
    try:
        parameters = inspect.signature(factory).parameters
    except ValueError:
        return {}
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return dict(offered)
    return {name: value for name, value in offered.items() if name in parameters}
