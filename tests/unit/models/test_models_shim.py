from __future__ import annotations

import subprocess
import sys

import pytest

STATE = """
import torch
from torch.library import Library
{before}
from autoprune.models import torchvision_shim
from autoprune.models.torchvision_shim import torchvision
import torchvision as again
assert again is torchvision and torchvision.models and torchvision.datasets and torchvision.extension
print(torchvision_shim._library is None)
"""

DECLARED = """
other = Library("torchvision", "FRAGMENT")
for name in ("nms", "qnms"):
    if not hasattr(torch.ops.torchvision, name):
        other.define(name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""


def outcome(before: str) -> str:
    code = STATE.format(before=before)
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_torchvision_imports_whatever_it_was_built_for():
    assert outcome("") in ("True", "False")


def test_nothing_is_declared_where_the_operators_exist():
    assert outcome(DECLARED) == "True"


@pytest.mark.parametrize("first", ["import autoprune.data.sources", "import autoprune.training.base"])
def test_our_modules_import_without_torchvision(first):
    code = f"import sys; {first}; sys.exit('torchvision' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
