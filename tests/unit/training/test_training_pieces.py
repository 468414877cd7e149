from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from autoprune.config.recipes import Recipe
from autoprune.data.dataset import Split
from autoprune.training import precision
from autoprune.training.augmentation import augment, padding_for, plan_epoch, resized_crop
from autoprune.training.pace import Pace
from autoprune.training.schedule import lr_at
from autoprune.training.scoring import normalise, score


def test_normalise_is_mean_and_std_of_pixels_in_0_to_1():
    images = torch.randint(0, 256, (4, 3, 5, 6), dtype=torch.uint8)
    mean, std = [0.1, 0.5, 0.9], [0.2, 0.3, 0.4]
    expected = (images.double() / 255 - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)
    assert torch.allclose(normalise(images, mean, std).double(), expected, atol=1e-5)
    assert normalise(images, mean, std).dtype == torch.float32
    last = images.contiguous(memory_format=torch.channels_last)
    assert normalise(last, mean, std).is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(normalise(last, mean, std), normalise(images, mean, std))


class Fixed(nn.Module):
    """Logits that depend on the first pixel alone, by a table."""

    def __init__(self, table: torch.Tensor) -> None:
        super().__init__()
        self.table = nn.Parameter(table)
        self.sizes: list[int] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert not self.training
        self.sizes.append(len(images))
        return self.table[images[:, 0, 0, 0].round().long()]


def table_split(n: int) -> Split:
    images = np.arange(n, dtype=np.uint8).reshape(n, 1, 1, 1)
    images.setflags(write=False)  # as Ray's object store hands arrays out
    return Split(images, np.array([0, 1, 1, 2, 0][:n]))


UNIT = {"mean": [0.0], "std": [1 / 255]}


def test_score_is_accuracy_and_mean_cross_entropy_whatever_the_batch_size():
    table = torch.tensor([[2.0, 0, 0], [0, 3.0, 0], [5.0, 0, 0], [0, 0, 1.0], [0, 1.0, 0]])
    labels = [0, 1, 1, 2, 0]
    nats = [
        math.log(sum(math.exp(v) for v in row)) - row[label] for row, label in zip(table.tolist(), labels, strict=True)
    ]
    for batch_size in (1, 2, 5, 100):
        model = Fixed(table).train()
        result = score(model, table_split(5), batch_size=batch_size, **UNIT)
        assert result == pytest.approx({"top1": 3 / 5, "loss": sum(nats) / 5})
        assert model.training
        assert sum(model.sizes) == 5


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_logits_that_are_not_finite_make_all_metrics_nan(bad):
    table = torch.eye(3)
    table[2, 1] = bad
    result = score(Fixed(table), table_split(3), batch_size=2, **UNIT)
    assert all(math.isnan(value) for value in result.values())


def test_no_images_cannot_be_scored():
    with pytest.raises(ValueError, match="no images"):
        score(Fixed(torch.eye(3)), table_split(0), batch_size=2, **UNIT)


def test_each_image_gets_its_own_crop_and_flip():
    images = torch.randint(1, 256, (6, 2, 8, 8), dtype=torch.uint8)
    rows, columns = torch.tensor([0, 1, 2, 2, 1, 0]), torch.tensor([1, 1, 0, 2, 2, 0])
    flips = torch.tensor([False, False, True, True, False, True])
    out = augment(images, rows, columns, flips, padding=1)
    for index in range(6):
        padded = np.pad(images[index].numpy(), ((0, 0), (1, 1), (1, 1)))
        row, column = int(rows[index]), int(columns[index])
        expected = padded[:, row : row + 8, column : column + 8]
        if flips[index]:
            expected = expected[:, :, ::-1]
        assert np.array_equal(out[index].numpy(), expected)
    assert torch.equal(augment(images, torch.ones(6).long(), torch.ones(6).long(), None, padding=1), images)


def test_a_plan_visits_each_image_once_and_uses_every_crop():
    plan = plan_epoch(1000, 4, seed=5, epoch=2)
    assert sorted(plan.order.tolist()) == list(range(1000))
    assert set(plan.rows.tolist()) == set(plan.columns.tolist()) == set(range(9))
    assert 0.4 < plan.flips.float().mean() < 0.6
    other = plan_epoch(1000, 4, seed=5, epoch=3)
    assert plan.order.tolist() != other.order.tolist()
    assert plan.order.tolist() != plan_epoch(1000, 4, seed=6, epoch=2).order.tolist()


def test_boxes_keep_to_the_ranges_of_area_and_shape_and_disturb_nothing():
    plan = plan_epoch(4000, 4, seed=5, epoch=2, shape=(60, 40))
    plain = plan_epoch(4000, 4, seed=5, epoch=2)
    assert plain.boxes is None
    assert torch.equal(plan.order, plain.order)
    assert torch.equal(plan.flips, plain.flips)
    top, left, height, width = plan.boxes.double().unbind(1)
    assert (plan.boxes >= 0).all()
    assert (top + height <= 1 + 1e-6).all()
    assert (left + width <= 1 + 1e-6).all()
    whole = (height == 1) & (width == 1)
    assert whole.float().mean() < 0.01
    area, ratio = (height * width)[~whole], (width * 40 / (height * 60))[~whole]
    assert 0.08 - 1e-6 <= area.min() < 0.1
    assert 0.8 < area.max() <= 1
    assert 3 / 4 - 1e-6 <= ratio.min() < 0.8
    assert 1.25 < ratio.max() <= 4 / 3 + 1e-6
    assert not torch.equal(plan.boxes, plan_epoch(4000, 4, seed=5, epoch=3, shape=(60, 40)).boxes)


def test_a_resized_crop_is_its_box_at_the_size_of_the_image():
    images = torch.randint(0, 256, (3, 2, 6, 8), dtype=torch.uint8)
    whole = torch.tensor([[0.0, 0, 1, 1]]).expand(3, 4)
    flips = torch.tensor([False, True, False])
    same = resized_crop(images, whole, flips)
    assert same.dtype == torch.float32
    assert torch.allclose(same[[0, 2]], images[[0, 2]].float(), atol=1e-3)
    assert torch.allclose(same[1], images[1].flip(-1).float(), atol=1e-3)
    ramp = (10 * torch.arange(8)).expand(2, 1, 6, 8).to(torch.uint8)
    box = torch.tensor([[0.5, 0.25, 0.5, 0.5]]).expand(2, 4)
    cut = resized_crop(ramp, box, torch.tensor([False, True]))[:, 0, 0]
    # the centre of output column j lies at input position 0.25 * 8 + (j + 0.5) / 2 - 0.5
    expected = 10 * (2 + (torch.arange(8) + 0.5) / 2 - 0.5)
    assert torch.allclose(cut[0], expected, atol=1e-3)
    assert torch.allclose(cut[1], expected.flip(0), atol=1e-3)


def test_pace_knows_what_is_left(monkeypatch):
    now = 0.0
    monkeypatch.setattr("autoprune.training.pace.time.perf_counter", lambda: now)
    pace = Pace()
    now = 5.0
    pace.start()
    now += 2.0
    pace.trained(100)
    assert pace.images_per_second == 50
    assert pace.left(200, 3) == 4.0
    now += 1.0
    pace.validated()
    assert pace.left(200, 3) == 7.0


def test_padding_is_4_for_cifar_and_1_for_digits():
    assert (padding_for(32), padding_for(8), padding_for(6)) == (4, 1, 1)


def test_warm_up_rises_in_a_line_and_cosine_falls_to_nothing():
    recipe = Recipe(lr=0.4, warmup=0.25)
    rates = [lr_at(recipe, step, 80) for step in range(80)]
    assert rates[:20] == pytest.approx([0.4 * (step + 1) / 20 for step in range(20)])
    assert rates[20] == pytest.approx(0.4)
    assert rates[50] == pytest.approx(0.2)
    assert all(one > other for one, other in pairwise(rates[20:]))
    assert 0 < rates[-1] < 0.001


def test_milestones_fall_tenfold():
    recipe = Recipe(lr=1.0, warmup=0.0, schedule="milestones", milestones=(0.5, 0.75))
    assert [round(lr_at(recipe, step, 8), 4) for step in range(8)] == [1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01]


@pytest.mark.parametrize(
    ("text", "native"),
    [
        ("processor\t: 0\nflags\t\t: fpu sse avx2\n", False),
        ("processor\t: 0\nflags\t\t: fpu avx512f avx512_bf16\n", True),
        ("Features\t: fp asimd bf16 i8mm\n", True),
        ("model name\t: bf16 machine\nflags\t\t: fpu\n", False),
    ],
)
def test_bfloat16_is_used_where_the_processor_has_it(monkeypatch, text, native):
    precision.has_native_bfloat16.cache_clear()
    monkeypatch.setattr(precision.Path, "read_text", lambda self: text)
    assert precision.has_native_bfloat16("cpu") is native
    assert precision.autocast_dtype("auto", "cpu") is (torch.bfloat16 if native else None)
    assert precision.autocast_dtype("float32", "cpu") is None
    assert precision.autocast_dtype("bfloat16", "cpu") is torch.bfloat16
    precision.has_native_bfloat16.cache_clear()
