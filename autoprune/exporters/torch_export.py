"""``torch.export``: a ``.pt2`` archive that any process with PyTorch runs without the model's Python code.

Read it with ``torch.export.load("model.pt2").module()``; the metadata is the extra file ``autoprune.json``.
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

__all__ = ["FILE", "dynamic_shapes", "load", "read_metadata", "write"]

FILE = "model.pt2"
_METADATA = "autoprune.json"


def write(path: Path, module: nn.Module, example: Inputs, *, dynamic: bool, metadata: Mapping[str, str]) -> None:
    """Raises whatever torch.export raises on a model that it cannot capture."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shapes = dynamic_shapes(example) if dynamic else None
        program = torch.export.export(module, example, dynamic_shapes=shapes, strict=False)
        content = io.BytesIO()  # saving into a file aborts the process when the disk is full
        torch.export.save(program, content, extra_files={_METADATA: json.dumps(dict(metadata))})
    path.write_bytes(content.getbuffer())


def load(path: Path) -> Runner:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torch.export.load(path).module()

    def run(sample: Inputs) -> list[torch.Tensor]:
        with torch.no_grad():
            return tensors(module(*sample))

    return run


def read_metadata(path: Path) -> dict[str, str]:
    extra = {_METADATA: ""}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.load(path, extra_files=extra)
    content: dict[str, str] = json.loads(extra[_METADATA])
    return content


def dynamic_shapes(example: Inputs) -> tuple[dict[int, object], ...]:
    """The first dimension of every argument is the batch, and the same."""
    batch = torch.export.Dim("batch")
    return tuple({0: batch} for _ in example)
