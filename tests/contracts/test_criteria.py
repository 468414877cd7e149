"""Every registered criterion keeps the contract."""

from __future__ import annotations

import inspect

import pytest

from autoprune.errors import ConfigError
from autoprune.protocols import Criterion
from autoprune.pruning import criteria
from autoprune.testing.criteria import CriterionContract

PLACED = {"random", "hutchinson"}
"""They draw a number for each place."""


class Registered(CriterionContract):
    name = ""

    def make(self, seed: int) -> Criterion:
        return criteria.get(self.name, seed)


for _name in criteria.names():
    _class = f"Test_{_name}"
    globals()[_class] = type(_class, (Registered,), {"name": _name, "equivariant": _name not in PLACED})


@pytest.mark.parametrize("name", criteria.names())
def test_every_criterion_has_a_name_and_says_where_it_is_from(name: str) -> None:
    criterion = criteria.get(name)
    assert criterion.name == name
    assert len(inspect.getdoc(inspect.getmodule(criterion)) or "") > 150


def test_the_catalogue_is_complete() -> None:
    found = {each.name: each for each in criteria.catalogue()}
    assert sorted(found) == criteria.names()
    assert found["l1"].needs == ("weights",)
    assert found["apoz"].needs == ("images",)
    assert found["taylor"].needs == ("images", "labels")


def test_unknown_names_and_options() -> None:
    with pytest.raises(ConfigError, match=r"no criterion 'tailor'.*Did you mean 'taylor'"):
        criteria.get("tailor")
    with pytest.raises(ConfigError, match=r"criterion 'taylor' does not take these options.*'power'"):
        criteria.get("taylor", power=2)
