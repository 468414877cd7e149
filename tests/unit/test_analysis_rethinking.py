"""Differences, intervals and sentences, against numbers made by hand."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace

import numpy as np
import pytest

from autoprune.analysis.rethinking import ArmRuns, Comparison, Subject, difference, kendall
from autoprune.analysis.rethinking_report import as_json, cells, write_comparison
from autoprune.analysis.rethinking_words import audit, conventions, differences, rows, verdicts


def runs(arm, test, *, subject="trial 1", start="inherit", epochs=10, macs=100.0, val=None, seeds=None):
    test = np.array(test, dtype=float)
    top1 = test if val is None else np.array(val, dtype=float)
    return ArmRuns(subject, arm, start, epochs, macs, tuple(seeds or range(len(test))), top1, test, np.ones(len(test)))


def subject(name, role="candidate", of="", proxy=0.9, macs=50.0, widths=None):
    return Subject(name, role, of, widths or {"a": len(name)}, macs, 10.0, proxy)


def comparison(results, subjects=None):
    subjects = subjects or (subject("trial 1"),)
    dense = subject("dense", "dense", macs=100.0, widths={"a": 99})
    return Comparison("s", 100.0, 200.0, 10, (0, 1, 2, 3, 4), (dense, *subjects), tuple(results))


def test_the_difference_is_paired_by_seed():
    """Differences .01, .02, .03, .04, .05: mean .03, s = sqrt(.00025), t(4, 97.5 %) = 2.776."""
    base = np.array([0.5, 0.9, 0.7, 0.6, 0.8])
    found = difference(runs("finetune", base + np.arange(1, 6) / 100), runs("scratch_e", base))
    assert found.n == 5
    assert found.mean == pytest.approx(0.03)
    assert found.std == pytest.approx(math.sqrt(0.00025))
    assert found.margin == pytest.approx(2.7764451 * math.sqrt(0.00025 / 5), rel=1e-6)
    assert (found.low, found.high) == pytest.approx((0.03 - found.margin, 0.03 + found.margin))
    assert found.clear
    assert found.low < found.bootstrap_low < found.mean < found.bootstrap_high < found.high


def test_only_seeds_that_both_ended_count():
    first = runs("finetune", [0.9, 0.8, math.nan], seeds=(1, 2, 4))
    second = runs("scratch_e", [0.5, 0.7, 0.6, 0.1], seeds=(0, 1, 2, 4))
    found = difference(first, second)
    assert found.n == 2
    assert found.mean == pytest.approx(0.2)


def test_one_pair_and_equal_pairs():
    alone = difference(runs("finetune", [0.9]), runs("scratch_e", [0.8]))
    assert (alone.n, alone.mean) == (1, pytest.approx(0.1))
    assert math.isnan(alone.low)
    assert not alone.clear
    same = difference(runs("finetune", [0.9, 0.8]), runs("scratch_e", [0.9, 0.8]))
    assert (same.low, same.high, same.bootstrap_low, same.bootstrap_high) == (0, 0, 0, 0)
    assert not same.clear
    by_chance = difference(runs("finetune", [0.9, 0.8]), runs("scratch_e", [0.8, 0.7]))
    assert by_chance.mean == pytest.approx(0.1)
    assert math.isnan(by_chance.low), "two differences of as many images are no proof"
    assert not by_chance.clear


def test_the_t_interval_covers():
    """Of a true difference of 2 points, five noisy pairs at a time: 95 % of the intervals have it."""
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(300):
        found = difference(runs("a", 0.02 + 0.01 * rng.normal(size=5)), runs("b", np.zeros(5)))
        held += found.low <= 0.02 <= found.high
    assert held / 300 == pytest.approx(0.95, abs=0.03)


def test_kendall_by_hand():
    """Of ten pairs nine agree: (9 - 1) / 10."""
    found = kendall([1, 2, 3, 4, 5], [1, 3, 2, 4, 5])
    assert found.tau == pytest.approx(0.8)
    assert found.n == 5
    assert -1 <= found.low <= found.tau <= found.high <= 1
    assert kendall([1, 2, math.nan], [1, 2, 3]).n == 2
    assert math.isnan(kendall([1, 1, 1], [1, 2, 3]).tau)


@pytest.mark.parametrize("n", [2, 3, 4, 5, 40])
def test_no_interval_where_resamples_cannot_differ(n):
    """Few architectures, or a perfect order: the bootstrap would say 1.00 to 1.00."""
    found = kendall(range(n), range(n))
    assert found.tau == 1
    assert math.isnan(found.low)
    assert math.isnan(found.high)


@pytest.mark.parametrize(
    ("proxy", "final", "words"),
    [
        ([1], [1], "1 architecture cannot"),
        ([1, 2], [1, 2], "takes at least 5: 'autoprune audit'"),
        ([1, 1, 1, 1, 1], [1, 2, 3, 4, 5], "all of the 5"),
        ([1, 2, 3, 4, 5], [1, 2, 3, 4, 5], "without an exception"),
        ([1, 2, 3, 4, 5], [5, 4, 3, 2, 1], "says little"),
        ([1, 2, 3, 4, 5], [1, 3, 2, 4, 5], "more architectures"),
        (list(range(40)), list(range(40)), ""),
    ],
)
def test_a_ranking_that_says_little_is_warned_of(proxy, final, words):
    warning = kendall(proxy, final).warning
    assert words in warning
    assert bool(warning) == bool(words)


LEVEL = np.array([0.90, 0.91, 0.92, 0.93, 0.94])
SMALL = np.array([0.004, 0.006, 0.005, 0.007, 0.003])
NOISE = np.array([0.02, -0.03, 0.01, -0.01, 0.02])


def test_sentences_claim_what_the_intervals_support():
    item = comparison(
        [
            runs("finetune_rewind", LEVEL + SMALL, macs=100.0),
            runs("scratch_e", LEVEL, start="scratch", macs=100.0),
            runs("scratch_b:plus_finetune=1", LEVEL + SMALL + NOISE, start="scratch", epochs=30, macs=300.0),
        ]
    )
    (text,) = verdicts(item)
    assert text.startswith("trial 1 (50 % of the MACs): inheriting helps by 0.50 +- 0.20 points at equal epochs")
    assert "no difference was found at equal compute (-0.20 +- 2.69 points" in text


def test_a_loss_is_said_as_such():
    item = comparison([runs("finetune_rewind", LEVEL - SMALL), runs("scratch_e", LEVEL, start="scratch")])
    assert "inheriting hurts by 0.50 +- 0.20 points at equal epochs" in verdicts(item)[0]
    assert "no two arms had equal compute" in verdicts(item)[0]


def test_the_policy_is_chosen_by_search_val():
    """The one that is best on test is not the one that search-val prefers."""
    item = comparison(
        [
            runs("finetune:share=1", LEVEL + 0.05, val=LEVEL - 0.1),
            runs("finetune_rewind", LEVEL + SMALL, val=LEVEL),
            runs("scratch_e", LEVEL, start="scratch"),
        ]
    )
    pair = item.equal_epochs("trial 1")
    assert pair is not None
    assert pair[0].arm == "finetune_rewind"


def test_references_and_initial_weights_are_judged_too():
    subjects = (
        subject("trial 1"),
        subject("uniform for trial 1", "uniform", "trial 1"),
        subject("random for trial 1", "random", "trial 1", widths={"a": len("trial 1")}),
    )
    item = comparison(
        [
            runs("rewind", LEVEL + SMALL, start="initial"),
            runs("scratch_e", LEVEL, start="scratch"),
            runs("scratch_e", LEVEL - SMALL, subject="uniform for trial 1", start="scratch"),
            runs("scratch_e", LEVEL, subject="random for trial 1", start="scratch"),
        ],
        subjects,
    )
    (text,) = verdicts(item)
    assert "the base model's initial weights beat new ones by 0.50 +- 0.20 points (rewind against scratch_e)" in text
    assert "it beats uniform widths by 0.50 +- 0.20 points (scratch_e)" in text
    assert "its widths are the best of random search" in text


def test_two_equal_differences_are_no_claim():
    item = comparison([runs("finetune_rewind", [0.9, 0.8]), runs("scratch_e", [0.8, 0.7], start="scratch")])
    assert "too few runs to tell a difference at equal epochs (finetune_rewind against scratch_e)" in verdicts(item)[0]


def test_a_hypernetworks_weights_are_judged():
    made = runs("hypernet", LEVEL - SMALL, start="hypernet")
    item = comparison([made, runs("scratch_e", LEVEL, start="scratch")])
    assert "the hypernetwork's weights lose to new ones by 0.50 +- 0.20 points" in verdicts(item)[0]
    assert item.total_macs(made) == 300.0
    counted = replace(item, hypernet_macs=450.0)
    assert counted.total_macs(made) == 550.0, "its own training, and the base model's before it"
    assert [counted.total_macs(other) for other in counted.of("trial 1")[1:]] == [100.0]
    assert any("what the hypernetwork took (450" in text for text in conventions(counted))


def test_compute_counts_the_base_model_where_its_weights_are_used():
    item = comparison([runs("finetune", LEVEL, macs=50.0), runs("scratch_b", LEVEL, start="scratch", macs=260.0)])
    mine, new = item.of("trial 1")
    assert (item.total_macs(mine), item.total_macs(new)) == (250.0, 260.0)
    assert item.equal_compute("trial 1") == (mine, new)
    (row,) = differences(item)
    assert row["compute_ratio"] == pytest.approx(250 / 260)


def test_what_the_search_ranked_by_is_audited():
    subjects = tuple(subject(f"trial {n}", proxy=0.1 * n, widths={"a": n}) for n in range(1, 11))
    found = [runs("scratch_e", [0.9 - 0.05 * n] * 2, subject=f"trial {n}", start="scratch") for n in range(1, 11)]
    item = comparison(found, subjects)
    assert item.tau.tau == pytest.approx(-1.0)
    assert "Warning: tau is below 0.5" in audit(item)
    assert "interval" not in audit(comparison(found[:2], subjects)).split("Warning")[0]


def test_files(tmp_path):
    diverged = runs("finetune", [0.9, math.nan], val=[0.8, math.nan], macs=50.0)
    item = comparison([diverged, runs("scratch_e", [0.7, 0.8], start="scratch", subject="dense")])
    write_comparison(item, tmp_path / "new", facts={"cores": "2"})
    with (tmp_path / "new" / "runs.csv").open() as file:
        found = list(csv.DictReader(file))
    assert [row["test_top1"] for row in found] == ["0.9", "", "0.7", "0.8"]
    content = json.loads((tmp_path / "new" / "comparison.json").read_text())
    assert content["verdicts"] == verdicts(item)
    assert content["facts"] == {"cores": "2"}
    page = (tmp_path / "new" / "report.html").read_text()
    assert "<script" not in page
    assert "http" not in page.split("</style>")[1].replace("http://www.w3.org", "")
    assert all(text.split("(")[0].strip() in page for text in verdicts(item))
    assert (tmp_path / "new" / "arms.png").stat().st_size > 10_000
    assert "1 diverged" in " ".join(cells(rows(item)[1]))
    assert as_json(item)["table"][1]["test_top1"] == pytest.approx(0.9)
    assert any("3 x the MACs" in text for text in conventions(item))
