"""Every file in search_spaces/ is valid, and what it names can be built."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoprune.config.loading import load_space
from autoprune.data.torchvision_sets import SETS
from autoprune.models import registry

FILES = sorted((Path(__file__).parents[2] / "search_spaces").glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_file_is_valid_and_says_what_it_is(path):
    space = load_space(path)
    assert path.read_text().startswith("# ")
    known = SETS.get(space.data.kind)
    classes = known.num_classes if known else 10
    channels = known.channels if known else getattr(space.data, "channels", 1)
    model = registry.build(space.model, num_classes=classes, in_channels=channels)
    assert sum(parameter.numel() for parameter in model.parameters()) > 1000


def test_there_is_one_for_the_quickstart_and_for_cifar10():
    assert {"digits_resnet8", "cifar10_resnet20"} <= {path.stem for path in FILES}
