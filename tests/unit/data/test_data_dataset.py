from __future__ import annotations

import numpy as np
import pytest

from autoprune.data.dataset import Split, carve


def numbered(labels: list[int] | np.ndarray) -> Split:
    """A split whose pixels tell which image it is."""
    labels = np.asarray(labels, np.int64)
    ids = np.arange(len(labels), dtype=np.uint32)
    return Split(ids.view(np.uint8).reshape(-1, 1, 2, 2), labels)


def ids_of(split: Split) -> list[int]:
    return np.ascontiguousarray(split.images).reshape(len(split), -1).view(np.uint32)[:, 0].tolist()


@pytest.mark.parametrize("seed", range(20))
def test_carving_never_puts_an_image_into_two_splits_or_none(seed):
    random = np.random.default_rng(seed)
    counts = random.integers(2, 40, random.integers(1, 7)).tolist()
    share = float(random.uniform(0.01, 0.99))
    labels = random.permutation(np.repeat(np.arange(len(counts)), counts))
    rest, carved = carve(labels, share, seed)
    assert sorted([*rest.tolist(), *carved.tolist()]) == list(range(len(labels)))
    for label, count in enumerate(counts):
        taken = int((labels[carved] == label).sum())
        assert 1 <= taken <= count - 1
        assert abs(taken - share * count) <= 1


def test_carving_depends_on_the_seed_alone():
    labels = np.repeat(np.arange(3), 30)
    assert np.array_equal(carve(labels, 0.2, 1)[1], carve(labels, 0.2, 1)[1])
    assert not np.array_equal(carve(labels, 0.2, 1)[1], carve(labels, 0.2, 2)[1])


def test_a_class_of_one_image_cannot_be_carved():
    with pytest.raises(ValueError, match="class 1 has 1 image"):
        carve(np.array([0, 0, 1]), 0.5, 0)


def test_every_prefix_of_taken_images_represents_the_classes():
    split = numbered(np.repeat([0, 1, 2], [60, 30, 10]))
    for n in range(1, 101):
        counts = np.bincount(split.take(n, seed=4).labels, minlength=3)
        assert np.all(np.abs(counts - n * np.array([0.6, 0.3, 0.1])) <= 1)


def test_taken_images_keep_their_labels_are_distinct_and_nested():
    split = numbered(np.random.default_rng(0).integers(0, 4, 50))
    taken = split.take(20, seed=1)
    assert len(set(ids_of(taken))) == 20
    assert taken.labels.tolist() == [int(split.labels[index]) for index in ids_of(taken)]
    assert ids_of(split.take(7, seed=1)) == ids_of(taken)[:7]
    assert ids_of(split.take(20, seed=2)) != ids_of(taken)
    assert sorted(ids_of(split.take(1000, seed=1))) == list(range(50))
    assert len(split.take(0)) == 0


def test_a_negative_number_of_images_is_refused():
    with pytest.raises(ValueError, match="-1"):
        numbered([0, 1]).take(-1)


def test_the_digest_sees_pixels_and_labels():
    one, same = numbered([0, 1, 1]), numbered([0, 1, 1])
    assert one.digest == same.digest
    assert one.digest != numbered([0, 1, 0]).digest
    changed = Split(one.images.copy(), one.labels)
    changed.images[2, 0, 1, 1] ^= 1
    assert changed.digest != one.digest
