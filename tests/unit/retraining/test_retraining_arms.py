"""Arms as data: epochs, schedules, compute, and what is said about wrong ones."""

from __future__ import annotations

import pytest

from autoprune.config.schema import Recipe
from autoprune.errors import ConfigError
from autoprune.retraining.arms import (
    ARMS,
    DEFAULT_ARMS,
    Finetune,
    FinetuneCosine,
    FinetuneRewind,
    Rewind,
    ScratchB,
    ScratchE,
    parse_arm,
    require_start,
    scratch_b_epochs,
    spec,
    training_macs,
)
from autoprune.training.schedule import lr_at

CIFAR = Recipe(epochs=160, batch_size=64, lr=0.1, warmup=0.0, schedule="milestones", milestones=(0.5, 0.75))


def rates(training, steps_per_epoch=10):
    """The learning rate at the start of each trained epoch."""
    steps = training.recipe.epochs * steps_per_epoch
    epochs = range(training.first_epoch, training.recipe.epochs)
    return [lr_at(training.recipe, epoch * steps_per_epoch, steps) for epoch in epochs]


def test_finetuning_is_the_papers():
    """Liu et al. 2019: 40 epochs after 160, at a constant 0.001."""
    training = Finetune().training(CIFAR, 2.0)
    assert training.epochs == 40
    assert set(rates(training)) == {0.001}


def test_rewinding_repeats_the_end_of_the_schedule():
    """Renda et al. 2020, with the rates of the last quarter: all after the second milestone."""
    training = FinetuneRewind(share=0.25).training(CIFAR, 2.0)
    assert (training.first_epoch, training.epochs) == (120, 40)
    assert rates(training) == pytest.approx([0.001] * 40)
    half = rates(FinetuneRewind(share=0.5).training(CIFAR, 2.0))
    assert half == pytest.approx([0.01] * 40 + [0.001] * 40)
    assert FinetuneRewind().training(CIFAR, 2.0) == ScratchE().training(CIFAR, 2.0)


def test_cosine_begins_at_its_rate_and_falls():
    found = rates(FinetuneCosine(lr=0.02).training(CIFAR, 2.0))
    assert len(found) == 40
    assert found[0] == 0.02
    assert found == sorted(found, reverse=True)
    assert found[-1] < 0.001


def test_scratch_b_stretches_the_schedule():
    """Milestones are shares, so they move along: 243 epochs fall at 121.5 and 182.25."""
    training = ScratchB().training(CIFAR, 1 / (1 - 0.342))
    assert training.epochs == 243
    found = rates(training)
    assert found[121:123] == pytest.approx([0.1, 0.01])
    assert found[182:184] == pytest.approx([0.01, 0.001])


def test_scratch_b_is_capped_and_lengthened():
    assert ScratchB(cap=2.0).training(CIFAR, 3.0).epochs == 320
    assert ScratchB().training(CIFAR, 3.0).epochs == 480
    assert ScratchB(plus_finetune=0.25).training(CIFAR, 3.0).epochs == 520
    assert scratch_b_epochs(10, 1.0) == 10, "no epoch is lost to rounding at full width"
    assert scratch_b_epochs(3, 1 / (1 / 3)) == 9


def test_all_arms_share_what_is_not_theirs():
    """Only epochs and learning rates differ."""
    shared = ("batch_size", "momentum", "weight_decay", "label_smoothing", "augment", "dtype", "seed")
    for name in ARMS:
        recipe = ARMS[name]().training(CIFAR, 2.0).recipe
        assert all(getattr(recipe, key) == getattr(CIFAR, key) for key in shared), name


def test_training_macs_count_three_passes():
    assert training_macs(10.0, images=100, epochs=2) == 6000.0


def test_compute_of_scratch_b_is_the_baselines():
    """K1 F / F' epochs of F' MACs each, to an epoch; with K2 on top, that of training and fine-tuning."""
    full, pruned = 100.0, 37.0
    budget = training_macs(full, 50, 160)
    spent = training_macs(pruned, 50, ScratchB().training(CIFAR, full / pruned).epochs)
    assert budget - training_macs(pruned, 50, 1) < spent <= budget
    fine = budget + training_macs(pruned, 50, Finetune().training(CIFAR, full / pruned).epochs)
    more = training_macs(pruned, 50, ScratchB(plus_finetune=0.25).training(CIFAR, full / pruned).epochs)
    assert fine - training_macs(pruned, 50, 1) < more <= fine


@pytest.mark.parametrize("text", [*DEFAULT_ARMS, "finetune:lr=0.01:share=0.5", "scratch_b:cap=2:plus_finetune=0.25"])
def test_a_spec_reads_back(text):
    assert spec(parse_arm(text)) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("finetun", "no arm 'finetun'. Did you mean 'finetune'"),
        ("", "no arm ''"),
        ("scratch_e:lr=1", "no option 'lr'. scratch_e has no options"),
        ("finetune:rate=1", "no option 'rate'"),
        ("finetune:lr=fast", "lr is 'fast', expected a number above 0"),
        ("finetune:lr=nan", "lr is 'nan'"),
        ("finetune:lr=inf", "lr is 'inf'"),
        ("finetune:share=0", "share is '0', expected a number above 0 and at most 1"),
        ("finetune_rewind:share=1.5", "at most 1"),
        ("scratch_b:cap", "cap is ''"),
    ],
)
def test_wrong_arms_are_explained(text, message):
    with pytest.raises(ConfigError) as caught:
        parse_arm(text)
    assert message in str(caught.value)


def test_arms_need_something_to_start_from():
    require_start("scratch", ranked=False, initial=False, hypernet=False)
    with pytest.raises(ConfigError, match="read from a checkpoint"):
        require_start(Rewind.start, ranked=True, initial=False, hypernet=False)
    with pytest.raises(ConfigError, match="no ranking"):
        require_start(Finetune.start, ranked=False, initial=True, hypernet=True)
    with pytest.raises(ConfigError, match="needs a hypernetwork"):
        require_start("hypernet", ranked=True, initial=True, hypernet=False)
