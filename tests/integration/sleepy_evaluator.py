"""A session of short naps and the evaluator that takes them, for nodes that have neither autoprune nor the tests."""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fake_ray_session import FakeSession
from ray import cloudpickle

from autoprune.analysis.nodes import node_of
from autoprune.types import Candidate, Measurement, Outcome, OutcomeKind


class Sleepy(FakeSession):
    """Remembers on which node each trial ended."""

    def __init__(self, trials: int) -> None:
        super().__init__(list(range(trials)), retries=20)
        self.nodes: Counter[str] = Counter()

    def tell(self, number: int, outcome: Outcome) -> None:
        if outcome.kind is OutcomeKind.MEASURED:
            self.nodes[node_of(outcome.worker).partition("/")[0]] += 1
        super().tell(number, outcome)


class Naps:
    """Each trial takes ``assets["seconds"]``; its metrics say what its process has."""

    def __init__(self, assets: dict[str, Any]) -> None:
        if assets.get("torch"):
            import torch

            assert torch
        self._assets = assets

    def evaluate(self, candidate: Candidate) -> Iterator[Measurement]:
        import ray

        import autoprune

        time.sleep(self._assets["seconds"])
        metrics = {
            "top1": 0.5,
            "shipped": float("runtime_resources" in str(autoprune.__file__)),
            "gpus": float(len(ray.get_gpu_ids())),
            "sees_all_gpus": float(os.environ.get("CUDA_VISIBLE_DEVICES", "all") == "all"),
            "threads": float(os.environ["OMP_NUM_THREADS"]),
        }
        yield Measurement(metrics, step=1, seconds=self._assets["seconds"], final=True)


@contextmanager
def by_value() -> Iterator[None]:
    """This module's classes travel whole: nodes cannot import it."""
    here = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(here)
    try:
        yield
    finally:
        cloudpickle.unregister_pickle_by_value(here)


_HIDING = """
import sys
from importlib.machinery import PathFinder

class Sent:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name != "autoprune":
            return None
        spec = PathFinder.find_spec(name, [entry for entry in sys.path if "runtime_resources" in entry])
        if spec is None:
            raise ModuleNotFoundError("autoprune is not installed on this node")
        return spec

sys.meta_path.insert(0, Sent)
"""


def bare(folder: Path) -> dict[str, str | None]:
    """The environment of nodes that find no autoprune but one that Ray brings, however it is installed here."""
    (folder / "sitecustomize.py").write_text(_HIDING)
    client = importlib.util.find_spec("grpc")  # wherever it is: a head with a Ray Client server needs it
    beside = [str(Path(client.origin).parents[1])] if client and client.origin else []
    return {"PYTHONPATH": os.pathsep.join([str(folder), *beside])}


def fake_torch(folder: Path, version: str) -> str:
    """A folder for PYTHONPATH in which torch seems to have this version."""
    info = folder / f"torch-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n")
    return str(folder)
