"""ONNX, one file with the weights and the metadata inside, verified in onnxruntime.

Needs the extra ``onnx``: onnx, onnxscript and onnxruntime.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from autoprune.errors import ConfigError
from autoprune.exporters.torch_export import dynamic_shapes
from autoprune.exporters.verify import Inputs, Runner, tensors

__all__ = ["FILE", "load", "open_session", "read_metadata", "require_packages", "write"]

FILE = "model.onnx"


def _required(package: str) -> Any:
    """The imported package. Raises ConfigError that says what to install."""
    try:
        return import_module(package)
    except ImportError as error:
        raise ConfigError(
            f"ONNX needs the package {package!r}, which cannot be imported: {error}.",
            "Install it with: pip install 'autoprune[onnx]'",
        ) from None


def require_packages() -> None:
    """Raises ConfigError unless a file can be written and verified."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        _required(package)


def write(path: Path, module: nn.Module, example: Inputs, *, dynamic: bool, metadata: Mapping[str, str]) -> None:
    """The input is named ``images``, the output ``logits``; several are ``input0``, ``input1``... and ``output0``...

    Raises ConfigError when a package of the extra is missing, and whatever torch.onnx raises on a model that it cannot
    convert.
    """
    require_packages()
    onnx = _required("onnx")
    with torch.no_grad():
        outputs = len(tensors(module(*example)))
    with _silent():
        program = torch.onnx.export(
            module,
            example,
            None,
            dynamo=True,
            dynamic_shapes=dynamic_shapes(example) if dynamic else None,
            input_names=_names("images", "input", len(example)),
            output_names=_names("logits", "output", outputs),
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export returned nothing")
    # the weights go inside, not into a file beside it that gets lost in copying
    program.save(str(path), external_data=False)
    model = onnx.load(str(path))
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))


def load(path: Path) -> Runner:
    session = open_session(path, threads=torch.get_num_threads())
    names = [item.name for item in session.get_inputs()]

    def run(sample: Inputs) -> list[Tensor]:
        values = {name: tensor.numpy() for name, tensor in zip(names, sample, strict=True)}
        return [torch.from_numpy(array) for array in session.run(None, values)]

    return run


def open_session(path: Path, *, threads: int) -> Any:
    """An ``onnxruntime.InferenceSession`` on the CPU with so many threads. Raises ConfigError without onnxruntime."""
    runtime = _required("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def read_metadata(path: Path) -> dict[str, str]:
    content: dict[str, str] = open_session(path, threads=1).get_modelmeta().custom_metadata_map
    return content


def _names(one: str, many: str, count: int) -> list[str]:
    return [one] if count == 1 else [f"{many}{number}" for number in range(count)]


@contextmanager
def _silent() -> Iterator[None]:
    """The converter's warnings are about itself; what matters of the result is verified."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
