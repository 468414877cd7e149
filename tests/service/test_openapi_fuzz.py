"""What schemathesis makes of the OpenAPI document, in a process of its own."""

from __future__ import annotations

import pytest

from tests.benchmarks.service_security import s4


@pytest.mark.slow
def test_whatever_is_invented_is_answered_as_documented() -> None:
    found = s4(cases=300)
    assert (found["invented_exit"], found["existing_exit"], found["defects_in_log"]) == (0, 0, 0), found
