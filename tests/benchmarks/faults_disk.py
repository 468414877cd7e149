"""R9: the disk of AUTOPRUNE_HOME, of exports or of reports is full while each kind of file is written.

Counted: faults that end as a clear error of exit code 4 (or, where the file only saves time, a warning); files that are
visible afterwards and were not whole before; temporary files left behind; writes that succeed once there is space.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from faults_stores import fill, small_disk
from torch import nn

from autoprune.errors import AutopruneError

__all__ = ["full_disk_artifacts"]

Write = Callable[[Path], object]
LEFT_KB = (0, 4, 40, 200)
"""Of free space: nothing at all, room for a name, and for a part of the file."""


def _large() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 1000), nn.ReLU(), nn.Linear(1000, 300)).eval()


class _Trainer:
    def state(self) -> dict[str, Any]:
        return _large().state_dict()


def _network(folder: Path) -> None:
    from autoprune.training.cache import TrainedCache

    TrainedCache("base", "base model").save("key", _large(), {})


def _progress(folder: Path) -> None:
    from autoprune.training.cache import TrainedCache

    TrainedCache("base", "base model").save_progress("key", _Trainer(), 1.0)  # type: ignore[arg-type]


def _scores(folder: Path) -> None:
    from autoprune.data.cache import cache_dir
    from autoprune.driver import assemble_ranking
    from autoprune.pruning.ranking import Scores

    assemble_ranking._write(cache_dir("scores") / "key.npz", Scores({"layer": np.ones(40_000)}, {}))


def _oracle(folder: Path) -> None:
    from autoprune.api.criteria_oracle import _Kept
    from autoprune.data.cache import cache_dir

    _Kept(cache_dir("oracles") / "key.npz", {}, 0.0).with_group("layer", np.ones((400, 100)), 1.0)


def _images(folder: Path) -> None:
    from PIL import Image

    from autoprune.data import folder as images

    with tempfile.TemporaryDirectory() as name:
        for kind in ("a", "b"):
            (Path(name) / kind).mkdir()
            Image.effect_noise((400, 400), 50).save(Path(name) / kind / "0.png")
        images.read_images(images.list_images(Path(name), ("a", "b")), size=400, channels=3)


def _bundle(folder: Path) -> None:
    from autoprune.config.schema import BuiltinModel
    from autoprune.exporters.bundle import save_bundle
    from autoprune.exporters.description import Description
    from autoprune.models import registry

    config = BuiltinModel(name="lenet5")
    model = registry.build(config, num_classes=10, in_channels=1).eval()
    save_bundle(folder / "bundle", model, Description(config, 10, (1, 28, 28), (0.1,), (0.3,), (), {}, {}, {}))


def _program(format: str) -> Write:
    def write(folder: Path) -> None:
        from autoprune.exporters.formats import save_program

        save_program(folder / format, _large(), (torch.zeros(1, 1, 8, 8),), format=format, metadata={})

    return write


def _report(folder: Path) -> None:
    from autoprune.files import write_text

    write_text(folder / "report.html", "x" * 500_000)


def _figure(folder: Path) -> None:
    from autoprune.analysis.front import build_front
    from autoprune.analysis.plots import plot_front
    from autoprune.testing import ToySearch, toy_space
    from autoprune.types import Candidate, Trial, TrialState

    toy = ToySearch(toy_space())
    found = [Candidate(dict.fromkeys(toy.space.names, 16)), toy.space.full()]
    trials = [Trial(n, each, TrialState.COMPLETE, metrics=toy.measure(each)) for n, each in enumerate(found)]
    plot_front(build_front("s", trials, baseline=trials[1].metrics), folder / "front.png")


def _compact(folder: Path) -> None:
    from autoprune.evaluators.replay import Evaluation, RecordedTable
    from autoprune.types import Candidate, Measurement

    rng = np.random.default_rng(0)
    table = RecordedTable(folder / "recorded.gz", ("a", "b"))
    table.describe(Evaluation("e", "s", "inherit", {}))
    for number in range(400):
        measured = Measurement({"top1": float(rng.random()), "loss": float(rng.random())}, 0, 0.1, True)
        table.add("e", Candidate({"a": number + 1, "b": 3}), measured)
    table.compact()


WRITERS: dict[str, Write] = {
    "trained network": _network,
    "unfinished training": _progress,
    "scores": _scores,
    "oracle": _oracle,
    "decoded images": _images,
    "exported bundle": _bundle,
    "exported onnx": _program("onnx"),
    "exported torch_export": _program("torch_export"),
    "exported torchscript": _program("torchscript"),
    "report": _report,
    "figure": _figure,
    "recorded candidates": _compact,
}


@contextmanager
def _home(folder: Path) -> Iterator[None]:
    before = os.environ.get("AUTOPRUNE_HOME")
    os.environ["AUTOPRUNE_HOME"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["AUTOPRUNE_HOME"]
        else:
            os.environ["AUTOPRUNE_HOME"] = before


def _files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file() and path.name != "filler"}


def _attempt(write: Write, folder: Path) -> str:
    """``4``: an error of that exit code; ``warned``; ``written``; or what else happened."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        try:
            write(folder)
        except AutopruneError as error:
            return str(error.exit_code)
        except Exception as error:  # noqa: BLE001  what must not happen is counted
            return f"{type(error).__name__}: {error}"[:120]
    return "warned" if any("not saved" in str(each.message) for each in said) else "written"


def full_disk_artifacts(names: tuple[str, ...] = tuple(WRITERS), left_kb: tuple[int, ...] = LEFT_KB) -> dict[str, Any]:
    """See the top. Raises PermissionError where no small disk can be mounted."""
    found: dict[str, Any] = {"faults": 0, "as_expected": 0, "half_written": 0, "left_behind": 0, "written_after": 0}
    strange = []
    for name in names:
        for kilobytes in left_kb:
            with small_disk(8.0) as disk, _home(disk):
                filler = fill(disk, kilobytes)
                before = _files(disk)
                said = _attempt(WRITERS[name], disk)
                after = _files(disk) - before
                visible = {path for path in after if not any(part.startswith(".") for part in path.parts[-3:])}
                if said != "written":
                    found["half_written"] += len({path for path in visible if path.suffix != ".journal"})
                    found["left_behind"] += len(after - visible)
                found["faults"] += 1
                found["as_expected"] += said in ("4", "warned", "written")
                after -= {path for path in after if path.suffix == ".journal"}  # whole lines, which are kept
                if said not in ("4", "warned", "written") or (said != "written" and after):
                    strange.append([name, kilobytes, said, sorted(path.name for path in after)])
                filler.unlink()
                found["written_after"] += _attempt(WRITERS[name], disk) == "written"
    return {**found, "survived": not strange, "strange": strange}
