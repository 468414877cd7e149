"""TorchScript by tracing: for the runtimes (C++, mobile) that still load it.

Read it with ``torch.jit.load("model.ts")``; the metadata is the extra file ``autoprune.json``.
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from autoprune.exporters.verify import Inputs, Runner, tensors

__all__ = ["FILE", "load", "read_metadata", "write"]

FILE = "model.ts"
_METADATA = "autoprune.json"


def write(path: Path, module: nn.Module, example: Inputs, *, dynamic: bool, metadata: Mapping[str, str]) -> None:
    """A trace takes any batch size; whether it is right for others than the example's is for the verification.

    Raises whatever torch.jit raises on a model that it cannot trace.
    """
    del dynamic
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(module, example, check_trace=False)
        content = io.BytesIO()  # saving into a file aborts the process when the disk is full
        torch.jit.save(traced, content, _extra_files={_METADATA: json.dumps(dict(metadata))})
    path.write_bytes(content.getbuffer())


def load(path: Path) -> Runner:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torch.jit.load(str(path))

    def run(sample: Inputs) -> list[torch.Tensor]:
        with torch.no_grad():
            return tensors(module(*sample))

    return run


def read_metadata(path: Path) -> dict[str, str]:
    extra = {_METADATA: ""}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.load(str(path), _extra_files=extra)
    content: dict[str, str] = json.loads(extra[_METADATA])
    return content
