"""Cutting a forward pass into segments, timing under a clock that is known, and choosing runs that count."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from autoprune.config.schema import BuiltinModel
from autoprune.errors import ConfigError
from autoprune.latency import build
from autoprune.latency.advice import overall_advice
from autoprune.latency.build import Effort, build_table
from autoprune.latency.layout import Segment
from autoprune.latency.measure import Run, counted_runs, measure_latency, timed_runs, undisturbed
from autoprune.latency.segments import Borders, find_segments
from autoprune.latency.settings import LatencySettings
from autoprune.models import registry
from autoprune.space.space import SearchSpace

SETTINGS = LatencySettings()


class Small(nn.Module):
    """Plain, depthwise and strided convolutions, a residual sum, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.deep = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.point = nn.Conv2d(16, 16, 1)
        self.wide = nn.Conv2d(16, 24, 3, stride=2, padding=1)
        self.head = nn.Linear(24, 10)

    def forward(self, images: Tensor) -> Tensor:
        x = torch.relu(self.stem(images))
        x = x + self.point(torch.relu(self.deep(x)))
        return self.head(torch.relu(self.wide(x)).mean((2, 3)))


@pytest.fixture(scope="module")
def small() -> tuple[nn.Module, Tensor, SearchSpace]:
    torch.manual_seed(0)
    model, images = Small().eval(), torch.rand(1, 3, 8, 8)
    return model, images, SearchSpace.from_module(model, images)


def test_segments_are_layers_and_what_runs_between(small: tuple[nn.Module, Tensor, SearchSpace]) -> None:
    model, images, space = small
    watched, segments = find_segments(model, (images,), space.cost, SETTINGS)
    assert sorted(watched) == ["deep", "head", "point", "stem", "wide"]
    order = ["stem", "deep", "point", "wide", "head"]
    between = [f"{one} -> {other}" for one, other in itertools.pairwise(["images", *order, "output"])]
    assert [item.name for item in segments] == [*itertools.chain(*zip(between[:-1], order, strict=True)), between[-1]]
    by_name = {item.name: item for item in segments}
    full = {group.name: np.array([group.units]) for group in space.groups}

    def sizes(name: str) -> tuple[int, int]:
        segment = by_name[name]
        return int(segment.first.sizes(full, 1)[0]), int(segment.second.sizes(full, 1)[0])

    assert sizes("stem") == (3, 16)
    assert sizes("deep") == (16, 16)
    assert sizes("wide") == (16, 24)
    assert sizes("wide -> head") == (24, 24)
    assert sizes("head") == (24, 10)


def test_sizes_follow_the_groups(small: tuple[nn.Module, Tensor, SearchSpace]) -> None:
    model, images, space = small
    _, segments = find_segments(model, (images,), space.cost, SETTINGS)
    stream = next(group.name for group in space.groups if group.channels == 16)
    wide = next(segment for segment in segments if segment.name == "wide")
    assert dict(wide.first.positions) == {stream: 1}
    deep = next(segment for segment in segments if segment.name == "deep")
    assert dict(deep.first.positions) == dict(deep.second.positions) == {stream: 1}
    assert "depthwise" in deep.signature


def test_layers_of_one_kind_share_a_signature() -> None:
    model = registry.build(BuiltinModel(name="resnet8"), num_classes=10, in_channels=3).eval()
    images = torch.rand(1, 3, 32, 32)
    space = SearchSpace.from_module(model, images)
    _, segments = find_segments(model, (images,), space.cost, SETTINGS)
    signatures = {item.name: item.signature for item in segments}
    assert signatures["layer1.0.conv1"] == signatures["layer1.0.conv2"]
    assert signatures["layer1.0.conv1"] != signatures["layer2.0.conv2"]  # another resolution
    assert signatures["layer2.0.conv1"] != signatures["layer2.0.conv2"]  # another stride


def test_segments_add_up_to_the_run(small: tuple[nn.Module, Tensor, SearchSpace]) -> None:
    model, images, space = small
    watched, segments = find_segments(model, (images,), space.cost, SETTINGS)
    borders = Borders(model, watched, SETTINGS)
    ticks = itertools.count()
    borders._stopwatch.clock = lambda: next(ticks) ** 2 / 1e3
    times, _ = borders.run((images,))
    borders.close()
    assert len(times) == len(segments)
    assert times == pytest.approx([2 * at + 1 for at in range(len(times))])  # differences of squares
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_runs_that_waited_for_the_processor_do_not_count() -> None:
    runs = [Run(1.0, 0.0, 1.0), Run(9.0, 0.8, 1.8), Run(1.2, 0.01, 1.19), Run(5.0, 0.5, 2.5)]
    assert counted_runs(runs) == [0, 2]
    assert undisturbed(runs) == [1.0, 1.2]


def test_where_all_waited_the_quarter_that_waited_least_counts_without_the_waiting() -> None:
    runs = [Run(10.0, share, 10.0 * (1 - share)) for share in (0.5, 0.1, 0.9, 0.3, 0.2, 0.6, 0.7, 0.8)]
    assert undisturbed(runs) == pytest.approx([9.0, 8.0])


def test_disturbed_runs_are_repeated_up_to_a_limit() -> None:
    script = iter([Run(0.0)] * 2 + [Run(5.0, 0.5, 2.5), Run(1.0), Run(1.0)])
    assert len(timed_runs(lambda: next(script), repeats=2)) == 3
    assert len(timed_runs(lambda: Run(5.0, 0.5, 2.5), repeats=2)) == 6


def test_measured_latency_is_that_of_the_model() -> None:
    class Sleeper(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            time.sleep(0.01)
            return images

    found = measure_latency(Sleeper(), torch.rand(1, 3, 4, 4), LatencySettings(threads=2), repeats=5, min_seconds=0.0)
    assert 10 <= found.min_ms <= found.median_ms <= found.p90_ms
    assert (found.runs, found.disturbed) == (5, 0.0)
    assert "2 of" in found.device
    assert "torch" in found.device


def test_the_model_and_torch_are_left_as_they_were(small: tuple[nn.Module, Tensor, SearchSpace]) -> None:
    model, images, _ = small
    model.train()
    before, threads = {name: item.clone() for name, item in model.state_dict().items()}, torch.get_num_threads()
    settings = LatencySettings(batch=2, threads=threads + 1, dtype="bfloat16", channels_last=True)
    found = measure_latency(model, images, settings, repeats=2, min_seconds=0.0, warmup=1)
    assert found.settings == settings
    assert model.training
    assert torch.get_num_threads() == threads
    for name, item in model.state_dict().items():
        assert item.dtype == torch.float32
        assert torch.equal(item, before[name])
    model.eval()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"batch": 0}, "batch must be at least 1"),
        ({"dtype": "int8"}, "dtype must be one of"),
        ({"clock": "sun"}, "clock must be one of"),
        ({"clock": "cpu", "threads": 2}, "counts one thread"),
    ],
)
def test_settings_that_make_no_sense(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LatencySettings(**wrong)  # type: ignore[arg-type]


@pytest.mark.skipif(torch.cuda.is_available(), reason="the device is there")
def test_a_device_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match="device 'cuda' is not available"):
        measure_latency(nn.Identity(), torch.rand(1, 3), LatencySettings(device="cuda"))


def test_a_compiler_that_fails_is_the_users_affair(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(model: nn.Module) -> nn.Module:
        def run(images: Tensor) -> Tensor:
            raise RuntimeError("no compiler\nand a long trace")

        return run  # type: ignore[return-value]

    monkeypatch.setattr(torch, "compile", fails)
    with pytest.raises(ConfigError, match=r"torch\.compile fails here: no compiler It needs"):
        measure_latency(nn.Identity(), torch.rand(1, 3), LatencySettings(compiled=True))


def test_a_table_of_compiled_networks(
    small: tuple[nn.Module, Tensor, SearchSpace], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each network that is timed whole is compiled once; the layers are timed as they are."""
    compiled: list[nn.Module] = []

    def compiler(model: nn.Module) -> nn.Module:
        compiled.append(model)
        return model

    monkeypatch.setattr(torch, "compile", compiler)
    monkeypatch.setattr(build, "sweep", lambda *_: ())
    done: list[tuple[int, int]] = []
    settings = LatencySettings(compiled=True)
    effort = Effort.suited(settings, levels=2, rounds=2, runs=1, fitted=3, held_out=2)
    table = build_table(*small, settings, effort=effort, on_progress=lambda *args: done.append(args))
    assert len(compiled) == 5
    steps = 2 * 6 + 5 + 1
    assert done == [(at, steps) for at in range(1, steps + 1)]
    assert table.settings.compiled
    assert np.isfinite(table.held_out.predicted_ms).all()
    assert Effort.suited(settings).held_out < Effort.suited(SETTINGS).held_out


def test_compiled_glue_is_fitted_apart() -> None:
    """Of a device on which layers take nine tenths of what they take alone, and fusing leaves a third of the rest."""
    rng = np.random.default_rng(0)
    layers, glue = rng.uniform(1.0, 4.0, 8), rng.uniform(0.2, 2.0, 8)
    offset, scale, between = build._coefficients(layers, glue, 0.1 + 0.9 * layers + 0.3 * glue, apart=True)
    predicted = offset + scale * (layers + between * glue)
    assert predicted == pytest.approx(0.1 + 0.9 * layers + 0.3 * glue, rel=0.03)
    assert scale == pytest.approx(0.9, abs=0.05)
    assert between == pytest.approx(1 / 3, abs=0.1)
    assert build._coefficients(layers, glue, layers - 0.2 * glue, apart=True)[2] == 0.0
    assert build._coefficients(layers, glue, layers + glue, apart=False)[2] == 1.0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch's compiler uses what torch deprecates
def test_a_table_through_the_real_compiler(small: tuple[nn.Module, Tensor, SearchSpace]) -> None:
    effort = Effort(levels=2, rounds=1, runs=3, fitted=2, held_out=2)
    table = build_table(*small, LatencySettings(compiled=True), effort=effort)
    assert (table.held_out.measured_ms > 0).all()


def test_a_table_of_two_inputs() -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right, self.head = nn.Conv2d(3, 12, 3), nn.Linear(5, 12), nn.Linear(12, 4)

        def forward(self, images: Tensor, facts: Tensor) -> Tensor:
            return self.head(self.left(images).mean((2, 3)) + self.right(facts))

    example = (torch.rand(1, 3, 8, 8), torch.rand(1, 5))
    model = Pair().eval()
    space = SearchSpace.from_module(model, example)
    effort = Effort(levels=2, rounds=1, runs=1, fitted=2, held_out=2)
    table = build_table(model, example, space, LatencySettings(batch=2), effort=effort)
    assert {item.name for item in table.segments if item.is_layer} == {"left", "right", "head"}
    assert measure_latency(model, example, LatencySettings(batch=2), repeats=2, min_seconds=0.0).median_ms > 0


def test_a_table_recovers_a_known_device(
    small: tuple[nn.Module, Tensor, SearchSpace], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On it a layer takes 0.05 ms and 1 ns for each pair of channels in and out; hooks add 2 us each; running the
    layers together takes 3 % less."""
    model, images, space = small
    names = space.names

    def parts(segments: tuple[Segment, ...], widths: np.ndarray) -> np.ndarray:
        units = {name: widths[:, at] for at, name in enumerate(names)}
        sizes = [[axis.sizes(units, len(widths)) for axis in (item.first, item.second)] for item in segments]
        return np.stack([0.05 + 1e-3 * one * other for one, other in sizes], axis=1)

    def visits(self: object, designed: np.ndarray, whole: np.ndarray, *_: object) -> tuple[np.ndarray, np.ndarray]:
        _, segments = find_segments(model, (images,), space.cost, SETTINGS)
        return parts(segments, designed) + 0.002, 0.97 * parts(segments, whole).sum(axis=1)

    monkeypatch.setattr(build.Visits, "all", visits)
    monkeypatch.setattr(build, "sweep", lambda *_: ())
    table = build_table(model, images, space, effort=Effort(levels=5, fitted=8, held_out=30))
    assert table.p90_error < 0.01
    assert len(table.held_out.widths) == 30
    assert table.scale == pytest.approx(0.97, abs=0.03)
    assert not overall_advice(table).measured


def test_a_table_of_a_real_network(small: tuple[nn.Module, Tensor, SearchSpace]) -> None:
    done: list[tuple[int, int]] = []
    effort = Effort(levels=2, rounds=1, runs=1, fitted=2, held_out=2)
    table = build_table(*small, effort=effort, on_progress=lambda *args: done.append(args))
    assert table.times_ms.shape == (2 + 2**2, len(table.segments))
    assert (table.times_ms >= 0).all()
    assert table.times_ms.sum() > 0
    assert done == [(at, 11) for at in range(1, 12)]
    assert {(item.kind, item.side) for item in table.staircases} >= {("conv 3x3", "out"), ("linear", "in")}
    assert np.isfinite(table.held_out.predicted_ms).all()


def test_effort_is_checked() -> None:
    with pytest.raises(ConfigError, match="levels must be at least 2"):
        Effort(levels=1)
