"""Images a second of our training loop beside a plain PyTorch loop, on ResNet-20 and images of CIFAR-10's shape.

    python tests/benchmarks/training_speed.py --root DATA/cifar10-jpeg --threads 1 --out results/training-speed

The plain loop is what one writes first: torchvision's transforms on PIL images in a DataLoader, float32, contiguous,
SGD. Both train the same epochs of the same images; the loops take turns, so that a busy machine slows all of them
alike, and each round gives one ratio. Validation is left out, as is the first round. Without ``--root``: random images.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from autoprune.config.recipes import Recipe
from autoprune.config.schema import BuiltinModel
from autoprune.data.dataset import Dataset, Split
from autoprune.models import registry
from autoprune.models.torchvision_shim import torchvision
from autoprune.training.loop import Trainer
from autoprune.training.precision import autocast_dtype

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)

Epoch = Callable[[], tuple[float, float, float]]
"""Trains one epoch: wall seconds, processor seconds of this process, mean loss."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root", type=Path, help="a folder train/<class>/* of images of 32 x 32 pixels")
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=20, help="of one loop in one round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--workers", type=int, nargs="*", default=[0, 2], help="of the plain loop's DataLoader")
    parser.add_argument("--compile", action="store_true", help="ours with recipe.compile as well")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    images, labels = real(options.root, options.steps * options.batch) if options.root else random_images(options)
    recipe = Recipe(epochs=options.rounds + 1, batch_size=options.batch, warmup=0.0, schedule="constant", lr=0.05)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    changes: dict[str, dict[str, object]] = {"ours": {}, "ours, float32": {"dtype": "float32"}}
    if options.compile:
        changes["ours, compiled"] = {"compile": True}
    loops = {
        name: ours(network(options.model), images, labels, recipe.model_copy(update=change))
        for name, change in changes.items()
    }
    for workers in options.workers:
        loops[f"plain, {workers} workers"] = plain(network(options.model), images, labels, recipe, workers, device)
    rows: dict[str, list[tuple[float, float, float]]] = {name: [] for name in loops}
    for number in range(options.rounds + 1):
        names = list(loops) if number % 2 else list(reversed(loops))
        for name in names:
            rows[name].append(loops[name]())
    report(rows, len(labels), options, device)


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    return registry.build(BuiltinModel(name=name), num_classes=10, in_channels=3)


def real(root: Path, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The first images of each class, decoded: (n, 32, 32, 3) uint8 and labels."""
    from PIL import Image

    folders = sorted(path for path in (root / "train").iterdir() if path.is_dir())
    each = -(-n // len(folders))
    images, labels = [], []
    for label, folder in enumerate(folders):
        for path in sorted(folder.iterdir())[:each]:
            with Image.open(path) as image:
                images.append(np.asarray(image.convert("RGB")))
            labels.append(label)
    return np.stack(images)[:n], np.array(labels)[:n]


def random_images(options: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    n = options.steps * options.batch
    return random.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8), random.integers(0, 10, n)


def ours(model: nn.Module, images: np.ndarray, labels: np.ndarray, recipe: Recipe) -> Epoch:
    """The trainer that autoprune uses, whose generator trains one epoch a turn; scoring is timed apart."""
    split = Split(np.ascontiguousarray(images.transpose(0, 3, 1, 2)), labels)
    names = tuple(str(label) for label in range(10))
    dataset = Dataset(split, split.take(10), 10, names, MEAN, STD, read_test=lambda: split)

    class Timed(Trainer):
        def _validate(self) -> float:
            synchronize(self.device)
            self.ended = time.perf_counter(), time.process_time()
            return 0.0

    trainer = Timed(model, dataset, recipe)
    reports = trainer.run()

    def epoch() -> tuple[float, float, float]:
        started, worked = time.perf_counter(), time.process_time()
        loss = next(reports).loss
        return trainer.ended[0] - started, trainer.ended[1] - worked, loss

    return epoch


class Pictures(TorchDataset[tuple[torch.Tensor, int]]):
    """As torchvision's CIFAR10: an array of pixels, of which each image becomes a PIL image when it is asked for."""

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        transforms = torchvision.transforms
        self.images, self.labels = images, labels
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        from PIL import Image

        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])


def plain(
    model: nn.Module, images: np.ndarray, labels: np.ndarray, recipe: Recipe, workers: int, device: torch.device
) -> Epoch:
    loader = DataLoader(
        Pictures(images, labels),
        batch_size=recipe.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=device.type == "cuda",
    )
    model = model.to(device).train()
    optimizer = torch.optim.SGD(
        model.parameters(), lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay, nesterov=True
    )

    def epoch() -> tuple[float, float, float]:
        started, worked, total = time.perf_counter(), time.process_time(), torch.zeros((), device=device)
        for batch, targets in on(loader, device):
            loss = F.cross_entropy(model(batch), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach()
        synchronize(device)
        return time.perf_counter() - started, time.process_time() - worked, float(total) / len(loader)

    return epoch


def on(
    loader: DataLoader[tuple[torch.Tensor, int]], device: torch.device
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    for batch, targets in loader:
        yield batch.to(device, non_blocking=True), targets.to(device, non_blocking=True)


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def report(
    rows: dict[str, list[tuple[float, float, float]]], images: int, options: argparse.Namespace, device: torch.device
) -> None:
    """Per loop: images a second, and how often ours fits into its seconds, round by round."""
    found = {}
    for name, timed in rows.items():
        ratios = [row[0] / mine[0] for row, mine in zip(timed[1:], rows["ours"][1:], strict=True)]
        worked = [row[1] / mine[1] for row, mine in zip(timed[1:], rows["ours"][1:], strict=True)]
        found[name] = {
            "images_per_second": round(images / statistics.median(row[0] for row in timed[1:]), 1),
            "ours_is_faster_by": round(statistics.median(ratios), 2),
            "rounds": [round(ratio, 2) for ratio in ratios],
            "by_processor_time": round(statistics.median(worked), 2)
            if "workers" not in name or " 0 " in name
            else None,
            "last_loss": round(timed[-1][2], 3),
        }
        print(name, json.dumps(found[name]))
    content = {
        "model": options.model,
        "images": "CIFAR-10 (JPEG)" if options.root else "random",
        "batch": options.batch,
        "steps_a_round": options.steps,
        "threads": options.threads,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "autocast": str(autocast_dtype("auto", device.type)),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "loops": found,
    }
    print({key: value for key, value in content.items() if key != "loops"})
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        path = options.out / f"{device.type}-{options.threads}-threads.json"
        path.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
