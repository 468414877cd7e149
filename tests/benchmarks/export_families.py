"""A random pruned candidate of many models in every export format, each verified by running it.

    python tests/benchmarks/export_families.py --out results/export/families.json
    python tests/benchmarks/export_families.py --input 3x64x64 torchvision:googlenet timm:regnety_004

Weights are random, and so are BatchNorm's statistics, so that folding has something to do. ``difference`` is the
largest one between the file's outputs and the PyTorch model's, relative to the largest output, over random batches of
3 and 5 images; an export with more than 1e-4 is refused by autoprune itself and counts as an error here.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from autoprune.api.reporting import facts
from autoprune.api.spaces import resolved
from autoprune.config.schema import ModelConfig
from autoprune.exporters import bundle, formats
from autoprune.exporters.description import Description
from autoprune.exporters.verify import Inputs, random_inputs, tensors
from autoprune.models import registry
from autoprune.pruning.groups import discover
from autoprune.pruning.slicing import slice_model

DEFAULT = (
    "resnet18",
    "squeezenet1_1",
    "densenet121",
    "googlenet",
    "inception_v3",
    "efficientnet_b0",
    "shufflenet_v2_x1_0",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "mnasnet1_0",
    "regnet_y_400mf",
    "resnext50_32x4d",
    "convnext_tiny",
    "vit_b_32",
    "swin_t",
)
_MOST_SHOWN = 70


def pruned(name: str, shape: tuple[int, int, int]) -> tuple[nn.Module, ModelConfig, int, dict[str, int]]:
    """A random candidate, its architecture, number of classes and widths."""
    torch.manual_seed(0)
    config, _, classes, _ = resolved(name)
    model = registry.build(config, num_classes=classes, in_channels=shape[0]).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.bias, std=0.1)
            nn.init.uniform_(module.weight, 0.8, 1.2)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.8, 1.2)
    groups = discover(model, torch.zeros(1, *shape), check=False).groups
    rng = np.random.default_rng(1)
    kept = {g.name: np.sort(rng.choice(g.units, rng.integers(1, g.units + 1), replace=False)) for g in groups}
    widths = {group.name: len(kept[group.name]) * group.unit for group in groups}
    return slice_model(model, groups, kept).eval(), config, classes, widths


def export(name: str, shape: tuple[int, int, int], format: str, fold: bool, folder: Path) -> dict[str, Any]:
    """One cell: what went wrong, or the difference; and the seconds of writing and verifying."""
    model, config, classes, widths = pruned(name, shape)
    began = time.perf_counter()
    try:
        if format == "safetensors":
            zeros, ones = (0.0,) * shape[0], (1.0,) * shape[0]
            described = Description(config, classes, shape, zeros, ones, (), widths, {}, {})
            path = bundle.save_bundle(folder, model, described)
        else:
            example = (torch.zeros(1, *shape),)
            path = formats.save_program(folder, model, example, format=format, metadata={}, fold_bn=fold)
        seconds = time.perf_counter() - began
        found = {"difference": difference(path, format, model, shape), "megabytes": round(size(path) / 1e6, 1)}
        inside = None if format == "safetensors" else formats.read_metadata(path)
        folded = {} if not fold or inside is None else {"folded": int(inside["folded_batchnorms"])}
        return {"seconds": round(seconds, 1), **found, **folded}
    except Exception as error:  # noqa: BLE001 - the cell says what went wrong
        return {"error": f"{type(error).__name__}: {error}".splitlines()[0]}


def difference(folder: Path, format: str, model: nn.Module, shape: tuple[int, int, int]) -> float:
    if format == "safetensors":
        loaded = bundle.load_model(folder)

        def run(sample: Inputs) -> list[torch.Tensor]:
            return tensors(loaded(*sample))
    else:
        backend = __import__(f"autoprune.exporters.{format}", fromlist=["load"])
        run = backend.load(folder / backend.FILE)
    worst = 0.0
    for sample in random_inputs((torch.zeros(1, *shape),), None):
        with torch.inference_mode():
            expected, got = tensors(model(*sample)), run(sample)
        largest = max(float(one.abs().max()) for one in expected)
        apart = max(float((one - other).abs().max()) for one, other in zip(expected, got, strict=True))
        worst = max(worst, apart / largest)
    return worst


def size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


def cell(found: dict[str, Any]) -> str:
    if "error" in found:
        return str(found["error"]).replace("|", "/")[:_MOST_SHOWN]
    folded = f", {found['folded']} folded" if "folded" in found else ""
    return f"ok, {found['difference']:.0e}, {found['seconds']:.0f} s{folded}"


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    columns = [key for key in rows[0] if key not in ("model", "input")]
    lines = ["| model | input | " + " | ".join(columns) + " |", "|---|---|" + "---|" * len(columns)]
    for row in rows:
        cells = [cell(row[column]) for column in columns]
        lines.append(f"| {row['model']} | {row['input']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=[f"torchvision:{name}" for name in DEFAULT])
    parser.add_argument("--out", type=Path, help="a JSON file of the rows")
    parser.add_argument("--input", metavar="CxHxW", help="instead of the size that the model was made for")
    return parser.parse_args()


def main() -> None:
    warnings.simplefilter("ignore")
    arguments = parsed()
    variants = {format: (format, False) for format in formats.FORMATS} | {"onnx, BN folded": ("onnx", True)}
    rows = []
    for name in arguments.models:
        shape = resolved(name)[1] if arguments.input is None else tuple(map(int, arguments.input.split("x")))
        row: dict[str, Any] = {"model": name, "input": "x".join(map(str, shape))}
        for label, (format, fold) in variants.items():
            with tempfile.TemporaryDirectory() as folder:
                row[label] = export(name, shape, format, fold, Path(folder) / "export")
        rows.append(row)
        print(table([row]).splitlines()[-1], flush=True)
        if arguments.out is not None:
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
            arguments.out.write_text(json.dumps({"facts": facts(), "rows": rows}, indent=1) + "\n")
    print("\n" + table(rows))


if __name__ == "__main__":
    main()
