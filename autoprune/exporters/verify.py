"""Does an exported file compute what the PyTorch model computes? Found out by running both."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from autoprune.errors import ExportMismatch

__all__ = ["Inputs", "Runner", "random_inputs", "tensors", "verify"]

Inputs = tuple[Tensor, ...]
"""The arguments of one call, batch first."""
Runner = Callable[[Inputs], Sequence[Tensor]]

_TOLERANCE = 1e-4
"""Of the largest output, in float32: rounding stays below 1e-5, a wrong graph does not."""
_BATCHES = (3, 5)


def random_inputs(example: Inputs, batch: int | None) -> list[Inputs]:
    """Arguments like ``example`` with values of its own kind: of two batch sizes, or all of ``batch``.

    Floating point arguments are drawn from a normal distribution; others keep the values of the example's first row.
    """
    generator = torch.Generator().manual_seed(0)

    def like(tensor: Tensor, rows: int) -> Tensor:
        if tensor.is_floating_point():
            return torch.randn((rows, *tensor.shape[1:]), generator=generator).to(tensor.dtype)
        return tensor[:1].expand(rows, *tensor.shape[1:]).contiguous()

    return [tuple(like(tensor, rows) for tensor in example) for rows in ([batch, batch] if batch else _BATCHES)]


def verify(run: Runner, module: nn.Module, samples: Sequence[Inputs], what: str) -> float:
    """The largest difference between the outputs of ``run`` and of ``module`` (eval mode), relative to the largest
    output of a sample.

    Raises ExportMismatch when it is above 1e-4, when the outputs have other shapes, or when ``run`` fails.
    """
    worst = 0.0
    for sample in samples:
        with torch.inference_mode():
            expected = tensors(module.eval()(*sample))
        worst = max(worst, _difference(expected, _ran(run, sample, what), what))
    if not worst <= _TOLERANCE:
        raise ExportMismatch(
            f"the exported model ({what}) does not reproduce the PyTorch model: outputs differ by {worst:.3g} "
            f"(relative), at most {_TOLERANCE:g} is expected.",
            "Nothing was written. Does the model's forward use tensors outside its state_dict, or draw random numbers?",
        )
    return worst


def tensors(output: Any) -> list[Tensor]:
    """The tensors of a model's output, in order: one, or those of a tuple, list or mapping."""
    if isinstance(output, Tensor):
        return [output]
    parts = output.values() if isinstance(output, Mapping) else output if isinstance(output, tuple | list) else ()
    return [tensor for part in parts for tensor in tensors(part)]


def _ran(run: Runner, sample: Inputs, what: str) -> list[Tensor]:
    try:
        return list(run(sample))
    except Exception as error:  # noqa: BLE001  each runtime has its own exceptions
        raise ExportMismatch(
            f"the exported model ({what}) does not run on a batch of {len(sample[0])}: {_first_line(error)}",
            "Nothing was written. Does the model's forward depend on the batch size? A fixed one may do: --batch N.",
        ) from None


def _difference(expected: Sequence[Tensor], got: Sequence[Tensor], what: str) -> float:
    shapes = [tuple(tensor.shape) for tensor in expected], [tuple(tensor.shape) for tensor in got]
    if shapes[0] != shapes[1]:
        raise ExportMismatch(
            f"the exported model ({what}) gives outputs of shapes {shapes[1]}, the PyTorch model {shapes[0]}.",
            "Nothing was written. Does the model's forward depend on the batch size? A fixed one may do: --batch N.",
        )
    pairs = [(one.double(), other.double()) for one, other in zip(expected, got, strict=True)]
    largest = max((float(one.abs().max()) for one, _ in pairs if one.numel()), default=0.0)
    apart = max((float((one - other).abs().max()) for one, other in pairs if one.numel()), default=0.0)
    return apart / max(largest, 1e-12)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no message'])[0][:300]}"
