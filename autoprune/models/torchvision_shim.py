"""The package's only door to torchvision, which works beside a CPU build of torch too.

torchvision's wheel on PyPI is linked to the CUDA build of torch. Beside a CPU build its operators cannot be loaded and
``import torchvision`` fails while it describes two of them. Declaring those two by name is all it needs; classifiers
and data sets use none of them. Where the operators exist nothing is declared.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import torch

from autoprune.errors import ConfigError

__all__ = ["torchvision"]

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


def _declare() -> torch.library.Library:
    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in _SCHEMAS:
        if not hasattr(torch.ops.torchvision, schema.partition("(")[0]):
            library.define(schema)
    return library


def _import() -> tuple[ModuleType, torch.library.Library | None]:
    try:
        return importlib.import_module("torchvision"), None
    except ImportError as error:
        raise ConfigError(f"torchvision cannot be imported: {error}.", "Install it: pip install torchvision.") from None
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    # What the failed import left behind must go: a second import would find submodules without their parent.
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = _declare()
    return importlib.import_module("torchvision"), library


# The library is kept: its declarations go when it is collected.
torchvision, _library = _import()
