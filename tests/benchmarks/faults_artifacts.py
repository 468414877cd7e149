"""One byte flipped, or the end cut off, in every kind of file that autoprune writes and reads back (R10).

    python tests/benchmarks/faults_artifacts.py [--flips 200] [--cuts 50] [--json FILE]

A fault counts as detected when reading it raises an AutopruneError, or warns, sets the file aside and gives nothing (a
cache, which is then made anew); as harmless when what was read equals what was written (a blank of JSON that became
another blank); as missed otherwise. ``peers``: what torch.load, safetensors and numpy.load say of the same files of
theirs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from autoprune.errors import AutopruneError


@dataclass(frozen=True)
class Case:
    """One file, and how it is read back."""

    name: str
    path: Path
    read: Callable[[], Any]
    """What was read, as plain data; None: nothing there. Raises what the product raises."""
    journal: bool = False
    """A last line that is cut off is dropped by design: fewer rows, all right, are what a killed process leaves."""


def net() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)]
    return nn.Sequential(*layers).eval()


class _Trainer:
    """As much of a trainer as a saved state needs."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.content: dict[str, Any] = {"epoch": 3, "weights": net().state_dict()}

    def state(self) -> dict[str, Any]:
        return self.content

    def load_state(self, content: dict[str, Any]) -> None:
        self.content = content


def cached_networks() -> Iterator[Case]:
    """Weights of base models; fine-tuned candidates, hypernetworks, procedures and retrainings share the class."""
    from autoprune.training.cache import TrainedCache

    cache = TrainedCache("base", "base model")
    cache.save("key", net(), {"seconds": 1.5, "recipe": {"epochs": 3}})
    yield Case("trained network", cache.path("key"), lambda: cache.load("key"))
    cache.save_progress("key", _Trainer(), 12.5)  # type: ignore[arg-type]

    def progress() -> Any:
        trainer = _Trainer()
        trainer.content = {}
        seconds = cache.load_progress("key", trainer)  # type: ignore[arg-type]
        return (seconds, trainer.content) if trainer.content else None

    yield Case("unfinished training", cache._progress_path("key"), progress)


def cached_numbers() -> Iterator[Case]:
    """Scores of channels, an oracle's changes, decoded images, compiled kernels."""
    from autoprune.api.criteria_oracle import _Kept
    from autoprune.data.cache import cache_dir
    from autoprune.driver import assemble_ranking
    from autoprune.evaluators.native import build
    from autoprune.pruning.ranking import Scores
    from autoprune.types import ChannelGroup

    rng = np.random.default_rng(0)
    group = ChannelGroup("layer", 64, ())
    scores = cache_dir("scores") / "key.npz"
    assemble_ranking._write(scores, Scores({"layer": rng.normal(size=64)}, {"other": "no BatchNorm"}))
    yield Case("scores", scores, lambda: _plain(assemble_ranking._read(scores, [group])))
    oracle = cache_dir("oracles") / "key.npz"
    _Kept(oracle, {}, 0.0).with_group("layer", rng.normal(size=(64, 30)), 1.5)
    yield Case("oracle", oracle, lambda: _Kept.read(oracle, [group]).changes or None)
    yield _decoded(rng)
    try:
        library = build._built()
    except build._Unavailable:
        return
    yield Case("compiled kernels", library, lambda: library.read_bytes() if build._is_whole(library) else None)


def _plain(scores: Any) -> Any:
    return None if scores is None else (dict(scores.values), dict(scores.replaced))


def _decoded(rng: np.random.Generator) -> Case:
    from PIL import Image

    from autoprune.data import folder
    from autoprune.data.cache import cache_dir

    root = cache_dir("drawn")
    for kind in ("a", "b"):
        (root / kind).mkdir(exist_ok=True)
        for number in range(20):
            Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(root / kind / f"{number}.png")
    listing = folder.list_images(root, ("a", "b"))
    folder.read_images(listing, size=16, channels=3)
    (path,) = cache_dir("images").glob("*.npy")
    shape = (40, 3, 16, 16)

    def read() -> Any:
        found = folder._cached(path, shape)
        return None if found is None else np.array(found)

    return Case("decoded images", path, read)


def latency_table() -> Any:
    """Two groups, three layers, eight timed networks."""
    from autoprune.latency.layout import Axis, Segment
    from autoprune.latency.settings import LatencySettings
    from autoprune.latency.table import GroupShape, LatencyTable, Timed

    rng = np.random.default_rng(0)
    sides = [Axis(3), Axis(0, {"a": 1}), Axis(0, {"b": 1}), Axis(10)]
    segments = [Segment(f"layer{at}", f"layer {at}", sides[at], sides[at + 1]) for at in range(3)]
    widths = rng.integers(4, 16, (8, 2))
    whole = Timed(widths, rng.random(8).round(6), rng.random(8).round(6))
    return LatencyTable(
        name="toy",
        device="an imagined processor",
        settings=LatencySettings(),
        made="2026-11-21T12:00:00+00:00",
        architecture="0" * 16,
        groups={name: GroupShape(16, 1, ()) for name in "ab"},
        segments=tuple(segments),
        widths=widths,
        times_ms=rng.random((8, 3)).round(6),
        fitted=whole,
        held_out=whole,
        staircases=(),
    )


def tables(folder: Path) -> Iterator[Case]:
    """A latency table, recorded candidates (compressed, and their journal), a comparison as the service reads it."""
    from autoprune.evaluators.replay import Evaluation, RecordedTable
    from autoprune.files import with_digest, without_digest
    from autoprune.latency.files import load_table, save_table
    from autoprune.types import Candidate, Measurement

    latency = folder / "latency.json"
    save_table(latency_table(), latency)
    yield Case("latency table", latency, lambda: repr(load_table(latency)))
    path = folder / "recorded.gz"
    for journal in (False, True):
        recorded = RecordedTable(path, ("a", "b"))
        recorded.describe(Evaluation("e", "s", "inherit", {"top1": 0.9}))
        for number in range(60 * journal, 60 * journal + 60):
            measured = Measurement({"top1": number / 256, "loss": 0.5}, 0, 0.1, True)
            recorded.add("e", Candidate({"a": number + 1, "b": 3}), measured)
        if not journal:
            recorded.compact()
        recorded.close()
        name = path.with_name("recorded.gz.journal") if journal else path
        label = f"recorded candidates{', journal' * journal}"

        def rows() -> Any:
            found = RecordedTable(path, ("a", "b"))
            return {**found._rows, **found._evaluations}

        yield Case(label, name, rows, journal)
    comparison = folder / "comparison.json"
    comparison.write_text(json.dumps(with_digest({"table": [{"arm": "fine-tune", "top1": 0.71}] * 20}), indent=2))

    def compared() -> Any:
        try:
            return without_digest(json.loads(comparison.read_text()), required=True)
        except (ValueError, AttributeError):
            return None  # the service answers that there is no comparison

    yield Case("comparison", comparison, compared)


PROGRAMS = ("onnx", "torch_export", "torchscript")


def exports(folder: Path, formats: tuple[str, ...] = PROGRAMS) -> Iterator[Case]:
    """Every file of an exported model in every format, and the zip file that a server keeps."""
    from autoprune.config.schema import BuiltinModel
    from autoprune.exporters.bundle import load_model, save_bundle
    from autoprune.exporters.description import Description
    from autoprune.exporters.formats import read_metadata, save_program
    from autoprune.models import registry

    config = BuiltinModel(name="lenet5")
    torch.manual_seed(0)
    model = registry.build(config, num_classes=10, in_channels=1).eval()
    facts = Description(config, 10, (1, 28, 28), (0.1,), (0.3,), tuple("0123456789"), {"conv1": 6}, {"top1": 0.9}, {})
    bundle = save_bundle(folder / "bundle", model, facts)
    for file in sorted(bundle.iterdir()):
        yield Case(f"bundle: {file.name}", file, lambda: load_model(bundle).state_dict())
    for format in formats:
        made = folder / format
        try:
            save_program(
                made, net(), (torch.zeros(1, 1, 8, 8),), format=format, metadata={"search": "s", "model": "{}"}
            )
        except AutopruneError:  # a package is missing
            continue
        for file in sorted(made.iterdir()):
            yield Case(f"{format}: {file.name}", file, lambda made=made: read_metadata(made))  # type: ignore[misc]


def served(folder: Path) -> Iterator[Case]:
    """What a server keeps for download."""
    from autoprune.api.artifacts import Artifact, Exporter
    from autoprune.errors import NotFound

    exporter = Exporter(f"sqlite:///{folder / 'autoprune.db'}")
    inside = folder / "model"
    inside.mkdir()
    (inside / "model.onnx").write_bytes(random.Random(0).randbytes(4000))
    exporter._folder.mkdir()
    made = exporter._packed(Artifact("0" * 16, "s", 3, "onnx", "running"), inside)
    assert made.path is not None

    def find() -> Any:
        exporter._checked.clear()
        try:
            return exporter.find(made.id)
        except NotFound:
            return None

    yield Case("served export", made.path, find)
    yield Case("served export: description", made.path.with_suffix(".json"), find)


def cases(folder: Path) -> Iterator[Case]:
    """All of them; AUTOPRUNE_HOME must lie in a folder that may be filled."""
    yield from cached_networks()
    yield from cached_numbers()
    for part in (tables, exports, served):
        (folder / part.__name__).mkdir()
        yield from part(folder / part.__name__)


# --- injecting -------------------------------------------------------------------------------------------------------


def damaged(raw: bytes, flips: int, cuts: int, seed: int) -> Iterator[bytes]:
    """Versions of a file with one byte changed, then versions cut short."""
    rng = random.Random(seed)
    for _ in range(flips):
        place = rng.randrange(len(raw))
        yield raw[:place] + bytes([raw[place] ^ rng.randrange(1, 256)]) + raw[place + 1 :]
    for _ in range(cuts):
        yield raw[: rng.randrange(len(raw))]


def verdict(case: Case, expected: Any) -> str:
    """``detected``, ``harmless`` or ``missed``."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            found = case.read()
        except AutopruneError:
            return "detected"
    if found is None:
        return "detected"
    if case.journal and isinstance(found, dict):
        expected = {key: value for key, value in expected.items() if key in found}
    return "harmless" if not said and same(found, expected) else "missed"


def same(one: Any, other: Any) -> bool:
    """Equal, tensors and arrays by their bytes."""
    if isinstance(one, (torch.Tensor, np.ndarray)):
        return type(one) is type(other) and np.asarray(one).tobytes() == np.asarray(other).tobytes()
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (tuple, list)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def put(path: Path, content: bytes) -> None:
    """Another file under that name: what was read before may still be mapped."""
    fresh = path.with_name("fresh")
    fresh.write_bytes(content)
    fresh.replace(path)


def inject(case: Case, flips: int, cuts: int, seed: int = 0) -> dict[str, Any]:
    """Counts for one file, which is as it was afterwards."""
    raw = case.path.read_bytes()
    expected = case.read()
    assert expected is not None, case.name
    counts = {"detected": 0, "harmless": 0, "missed": 0}
    missed = []
    for number, content in enumerate(damaged(raw, flips, cuts, seed)):
        put(case.path, content)
        found = verdict(case, expected)
        counts[found] += 1
        if found == "missed":
            missed.append(number)
        case.path.with_name(f"{case.path.name}.corrupt").unlink(missing_ok=True)
        _restore_sidecar(case)
    put(case.path, raw)
    began = time.perf_counter()
    assert same(case.read(), expected), case.name
    return {"bytes": len(raw), **counts, "missed_at": missed, "read_ms": round(1e3 * (time.perf_counter() - began), 2)}


_sidecars: dict[Path, dict[Path, bytes]] = {}


def _restore_sidecar(case: Case) -> None:
    """A served export is two files, and setting it aside removes both."""
    folder = case.path.parent
    if case.path.suffix in (".zip", ".json") and folder.name == "exports":
        for path, content in _sidecars.setdefault(folder, {}).items():
            if path != case.path:
                path.write_bytes(content)


def remember_sidecars(case: Case) -> None:
    """Call before ``inject``: what the other file of a pair holds."""
    if case.path.parent.name == "exports":
        _sidecars[case.path.parent] = {path: path.read_bytes() for path in case.path.parent.iterdir()}


def peers(folder: Path, flips: int, cuts: int) -> dict[str, dict[str, int]]:
    """The same faults in files of torch.save, safetensors and numpy.save, read by their own functions."""
    from safetensors.torch import load_file, save_file

    state = {name: tensor.contiguous() for name, tensor in net().state_dict().items()}
    torch.save(state, folder / "peer.pt")
    save_file(state, folder / "peer.safetensors")
    array = np.random.default_rng(0).integers(0, 256, (40, 3, 16, 16), dtype=np.uint8)
    np.save(folder / "peer.npy", array)
    readers: dict[str, tuple[Callable[[Path], Any], Any]] = {
        "peer.pt": (lambda path: torch.load(path, weights_only=True), state),
        "peer.safetensors": (load_file, state),
        "peer.npy": (np.load, array),
    }
    found = {}
    for name, (read, expected) in readers.items():
        counts = {"detected": 0, "harmless": 0, "missed": 0}
        raw = (folder / name).read_bytes()
        for content in damaged(raw, flips, cuts, 0):
            (folder / name).write_bytes(content)
            try:
                read_back = read(folder / name)
            except Exception:  # noqa: BLE001  whatever it raises, it noticed
                counts["detected"] += 1
            else:
                counts["harmless" if same(read_back, expected) else "missed"] += 1
        found[name] = counts
    return found


def measure(flips: int = 200, cuts: int = 50) -> dict[str, Any]:
    before = os.environ.get("AUTOPRUNE_HOME")
    with tempfile.TemporaryDirectory() as name:
        os.environ["AUTOPRUNE_HOME"] = str(Path(name) / "home")
        try:
            found: dict[str, Any] = {}
            for case in cases(Path(name)):
                remember_sidecars(case)
                found[case.name] = inject(case, flips, cuts)
            compared = peers(Path(name), flips, cuts)
        finally:
            if before is None:
                del os.environ["AUTOPRUNE_HOME"]
            else:
                os.environ["AUTOPRUNE_HOME"] = before
    total = {key: sum(each[key] for each in found.values()) for key in ("detected", "harmless", "missed")}
    return {"flips": flips, "cuts": cuts, "files": len(found), "total": total, "of_each": found, "peers": compared}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flips", type=int, default=200)
    parser.add_argument("--cuts", type=int, default=50)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = measure(options.flips, options.cuts)
    for name, row in found["of_each"].items():
        print(f"{name:34} {row['bytes']:8} bytes  {row['detected']} detected, {row['harmless']} harmless, "
              f"{row['missed']} missed")  # fmt: skip
    print(found["total"], found["peers"])
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
