"""Agreement of two orders, over all sizes and at equal size, against numbers made by hand; and who is drawn."""

from __future__ import annotations

import csv
import html
import json
import math

import numpy as np
import pytest
from scipy import stats

from autoprune.analysis.audit_sampling import stratified
from autoprune.analysis.auditing import Audit, Audited, tau_b
from autoprune.analysis.auditing_report import as_json, write_audit
from autoprune.analysis.auditing_words import candidate_rows, sentences, short, warning


def audit(rows, *, seeds=1, sign=1, **more):
    """``rows``: stratum, proxy, final accuracy (one, or one a seed); MACs rise with the stratum and are equal in it."""
    sample = []
    for number, (stratum, proxy, final, *macs) in enumerate(rows):
        finals = tuple(np.atleast_1d(final).tolist())
        size = macs[0] if macs else 100.0 * (stratum + 1)
        proxies = {"top1": proxy, **{name: values[number] for name, values in more.items()}}
        sample.append(Audited(number, size, stratum, proxies, tuple(range(len(finals))), finals, finals))
    return Audit("s", "scratch_e", 10, seeds, "top1", sign, "top1 of inherited weights", 1000.0, 60, tuple(sample))


def test_tau_b_is_kendalls_with_ties():
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = rng.integers(0, 6, (2, 15))
        assert tau_b(a, b) == pytest.approx(stats.kendalltau(a, b).statistic)
    assert math.isnan(tau_b(np.ones(4), np.arange(4)))


def test_tau_within_strata_is_over_their_pairs_together():
    """Strata of three and of four: 3 + 6 pairs, of which one disagrees in each: (9 - 2 - 2) / 9."""
    a = np.array([1, 2, 3, 11, 12, 13, 14])
    b = np.array([2, 1, 3, 11, 12, 14, 13])
    strata = np.array([0, 0, 0, 1, 1, 1, 1])
    assert tau_b(a, b, strata) == pytest.approx(5 / 9)
    assert tau_b(a, b) == pytest.approx((21 - 4) / 21), "size adds twelve pairs that agree"


def test_size_inflates_the_pooled_tau():
    """Larger ones are better in both; at equal size the order is upside down."""
    rows = [(size, 0.5 + 0.1 * size + 0.01 * n, 0.5 + 0.1 * size - 0.01 * n) for size in range(4) for n in range(4)]
    item = audit(rows)
    assert item.main.overall.value == pytest.approx((120 - 2 * 24) / 120)
    assert item.main.within.value == -1
    assert math.isnan(item.main.within.low), "resamples of a perfect order say nothing"
    assert "not shown to be better than chance" in warning(item)
    alone = item.agreements[-1]
    assert (alone.measure, alone.within.value) == ("macs", pytest.approx(math.nan, nan_ok=True))


def test_the_partial_tau_takes_out_what_size_explains():
    """Both follow MACs inside a stratum, each with noise of its own: what is left is near nothing."""
    rng = np.random.default_rng(0)
    size = np.tile(np.linspace(1.0, 2.0, 40), 3)
    noise = 0.25 * rng.normal(size=(2, 120))
    strata = np.repeat(np.arange(3), 40)
    rows = [(int(s), m + x, m + y, m) for s, m, x, y in zip(strata, size, *noise, strict=True)]
    item = audit(rows)
    assert item.main.within.value > 0.35
    assert abs(item.main.given_size.value) < 0.2
    a, b = (np.array([row[column] for row in rows]) for column in (1, 2))
    ab, am, bm = (tau_b(*pair, strata) for pair in ((a, b), (a, size), (b, size)))
    expected = (ab - am * bm) / math.sqrt((1 - am**2) * (1 - bm**2))
    assert item.main.given_size.value == pytest.approx(expected)
    assert math.isnan(item.agreements[-1].given_size.value)


def test_a_ranking_by_a_loss_is_turned_round():
    rows = [(0, loss, 1 - loss) for loss in (0.1, 0.2, 0.4, 0.3, 0.5)]
    assert audit(rows, sign=-1).main.within.value == 1


def test_the_intervals_cover():
    """Ranks of two normal variables with correlation 0.6: tau = 2 / pi * asin(0.6), 24 candidates in 6 strata."""
    rng = np.random.default_rng(5)
    truth, held = 2 / math.pi * math.asin(0.6), 0
    for _ in range(20):
        x = rng.normal(size=24)
        y = 0.6 * x + 0.8 * rng.normal(size=24)
        found = audit([(n // 4, *pair) for n, pair in enumerate(zip(x, y, strict=True))]).main.within
        held += found.low <= truth <= found.high
    assert held >= 16


def test_what_choosing_by_the_measure_costs():
    item = audit([(0, 0.9, 0.80), (0, 0.8, 0.86), (0, 0.7, 0.86), (0, 0.6, 0.60), (0, 0.5, 0.5), (0, 0.4, 0.4)])
    (found,) = item.results
    assert (found.chosen_trial, found.chosen, found.best_trial, found.best) == (0, 0.80, 1, 0.86)
    assert found.mean == pytest.approx(4.02 / 6)
    assert (found.top, found.shared) == (2, 1), "by both the best two have trial 1 in common"
    assert "Its best of a stratum ended at 80.00 %" in " ".join(sentences(item))
    assert [row["final_rank"] for row in candidate_rows(item)] == [3, 1.5, 1.5, 4, 5, 6]


def test_seeds_that_disagree_are_said_to():
    """The second training has the order of the first upside down."""
    item = audit([(n // 4, n, (0.1 * n, -0.1 * n)) for n in range(8)], seeds=2)
    assert item.repeatability == -1
    assert math.isnan(audit([(0, n, n) for n in range(5)]).repeatability)
    mixed = audit([(n // 4, n % 3, (0.1 * n, -0.1 * n + 0.001 * (n % 2))) for n in range(8)], seeds=2)
    assert "Two trainings agree no better" in warning(mixed)


def test_a_diverged_run_leaves_the_others():
    item = audit([(0, n, (n / 10, math.nan)) for n in range(5)] + [(0, 9, (math.nan, math.nan))], seeds=2)
    assert item.main.n == 5
    assert [row["test_top1"] for row in candidate_rows(item)] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])


@pytest.mark.parametrize(
    ("noise", "words"),
    [(0.0, ""), (1.0, "more of them"), (3.0, "below 0.5"), (100.0, "chance")],
)
def test_warnings(noise, words):
    rng = np.random.default_rng(1)
    rows = [(n // 8, float(n), n + noise * float(rng.normal()) * 2.4) for n in range(40)]
    found = warning(audit(rows))
    assert words in found
    assert bool(found) == bool(words)
    assert "tau" in short(audit(rows))


def test_other_measures_of_the_trials_are_judged_beside_it():
    rows = [(n // 4, n, n) for n in range(8)]
    item = audit(rows, top1_calibrated=[-n for n in range(8)])
    assert [found.measure for found in item.agreements] == ["top1", "top1_calibrated", "macs"]
    assert item.agreements[1].within.value == -1


# --- who is drawn ----------------------------------------------------------------------------------------------------


@pytest.fixture
def trials():
    """MACs over a factor of ten, and accuracies that rise with them."""
    rng = np.random.default_rng(2)
    macs = np.exp(rng.uniform(0, math.log(10), 200))
    return macs, np.log(macs) + rng.normal(size=200)


def test_the_sample_is_of_all_sizes_and_ranks(trials):
    macs, quality = trials
    strata = stratified(macs, quality, 24, 0)
    assert (strata >= 0).sum() == 24
    assert np.bincount(strata[strata >= 0]).tolist() == [4] * 6
    assert np.array_equal(strata, stratified(macs, quality, 24, 0))
    parts = np.array_split(np.argsort(macs), 6)
    for number, part in enumerate(parts):
        mine = np.flatnonzero(strata == number)
        assert set(mine) <= set(part)
        ranks = np.sort(np.searchsorted(np.sort(quality[part]), quality[mine]))
        assert ranks[0] < 17
        assert ranks[-1] >= 17, "from both halves of the ranking"
        assert macs[mine].max() / macs[mine].min() < 1.25


def test_the_best_of_each_stratum_is_in_it():
    """With as many trials as are drawn from, the search's choice is there whatever the seed."""
    quality = np.array([3.0, 1.0, 2.0, 6.0, 5.0, 4.0, 9.0, 8.0, 7.0, 0.0])
    for seed in range(5):
        assert stratified(np.full(10, 50.0), quality, 5, seed)[6] == 0


def test_few_trials_are_all_taken():
    macs = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    assert stratified(macs, macs, 20, 0).tolist() == [0] * 5
    assert (stratified(np.repeat(macs, 2), np.arange(10.0), 20, 0) >= 0).all()


def test_files(tmp_path):
    rng = np.random.default_rng(0)
    rows = [(n // 4, float(n), tuple(n / 100 + 0.05 * rng.normal(size=2)), 100.0 + n) for n in range(12)]
    item = audit(rows, seeds=2, top1_calibrated=[0.01 * n for n in range(12)])
    write_audit(item, tmp_path / "new", facts={"cores": "2"})
    with (tmp_path / "new" / "candidates.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 12
    with (tmp_path / "new" / "agreement.csv").open() as file:
        found = list(csv.DictReader(file))
    assert [row["measure"] for row in found] == ["top1", "top1_calibrated", "macs"]
    assert float(found[0]["tau_within"]) == pytest.approx(item.main.within.value, abs=1e-5)
    assert found[2]["tau_given_size"] == ""
    content = json.loads((tmp_path / "new" / "audit.json").read_text())
    assert content["warning"] == warning(item)
    assert content["facts"] == {"cores": "2"}
    assert as_json(item)["agreement"][0]["n"] == 12
    page = html.unescape((tmp_path / "new" / "report.html").read_text())
    assert "<script" not in page
    assert all(text.split("(")[0] in page for text in sentences(item))
    assert (tmp_path / "new" / "audit.png").stat().st_size > 10_000
    assert {path.name for path in (tmp_path / "new").iterdir()} == {
        *("agreement.csv", "strata.csv", "candidates.csv", "runs.csv", "audit.json", "audit.png", "report.html")
    }
