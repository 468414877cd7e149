"""What ``autoprune space`` reports."""

from __future__ import annotations

import pytest

from autoprune import api
from autoprune.errors import ConfigError


def test_a_check_reports_every_group_and_the_share_that_can_be_pruned() -> None:
    report = api.space("resnet8", check=True)
    assert report.prunable == 1.0
    assert report.error is not None
    assert report.error <= 1e-9
    assert all(group.error is not None and group.error <= 1e-9 for group in report.groups)


def test_without_a_check_nothing_is_claimed() -> None:
    report = api.space("lenet300_100")
    assert report.error is None
    assert [group.error for group in report.groups] == [None, None]


@pytest.mark.parametrize("spec", ["torchvision:resnet51", "resnet21", "timms:resnet18"])
def test_unknown_names_are_refused(spec: str) -> None:
    with pytest.raises(ConfigError):
        api.space(spec)
