"""Who may import whom (autoprune/DECISIONS.md), how big files may be, and what importing the package costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "autoprune"
FILES = sorted(PACKAGE.rglob("*.py"))

BASE = {"errors", "types", "files", "logs"}
TORCH_LINE = {"models", "data", "pruning", "training", "cost", "space", "config", "protocols", *BASE}
# part -> parts of ours that it may import, at module level or inside functions
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "types": set(),
    "files": {"errors"},
    "logs": {"errors"},
    "protocols": {*BASE},
    "config": {*BASE},
    "cost": {*BASE, "pruning"},
    # space.SearchSpace.from_module reaches pruning and cost.trace inside the function: the one-call door for notebooks
    "space": {*BASE, "config", "cost", "pruning"},
    "analysis": {*BASE},
    "latency": {*BASE, "cost", "space", "pruning"},
    "models": {*BASE, "config"},
    "data": {*BASE, "config", "models"},
    "pruning": {*BASE, "protocols"},
    "training": {*BASE, "config", "models", "data"},
    "hypernet": {*TORCH_LINE, "training"},
    "retraining": {*TORCH_LINE, "training", "hypernet"},
    "procedures": {*TORCH_LINE, "training"},
    "evaluators": {*TORCH_LINE, "training", "hypernet"},
    "exporters": {*TORCH_LINE, "evaluators"},
    "controllers": {*BASE, "protocols", "config", "space", "cost"},
    "store": {*BASE},
    "executors": {*BASE, "protocols", "driver", "config"},
    "driver": {*BASE, "protocols", "config", "space", "cost", "store"},
    "testing": {*BASE, "protocols", "config", "space", "cost", "controllers", "store", "pruning"},
    # measures every part, and is called by the command line alone
    "bench": {*TORCH_LINE, "training", "evaluators", "driver", "store", "executors", "analysis", "api"},
    # jobs of a Ray cluster, over HTTP: nothing of Ray is needed where they are submitted
    "cluster": {*BASE, "config"},
    # scripts run against a server as they run against the library
    "client": {*BASE, "api", "config", "analysis"},
    "service": {*BASE, "api", "config", "analysis"},
    "cli": {*BASE, "protocols", "api", "config", "analysis", "bench", "service"},
}
ANYTHING = {"api", "__init__", "__main__"}
# the composition roots name concrete classes
EXCEPTIONS = {
    "driver/assemble.py",
    "driver/assemble_finetune.py",
    "driver/assemble_hypernet.py",
    "driver/assemble_latency.py",
    "driver/assemble_module.py",
    "driver/assemble_ranking.py",
    "driver/assemble_reconstruction.py",
}

# library -> the only parts or files that may import it at all
ONLY_IN = {
    "ray": ("executors/ray_", "testing/ray_nodes"),
    "optuna": ("controllers/optuna", "exporters/optuna_study"),
    "sqlalchemy": ("store/",),
    "typer": ("cli/",),
    "torch_pruning": (),
    "timm": ("models/timm_source",),
    "matplotlib": ("analysis/",),
    "plotly": ("analysis/",),
    "fastapi": ("service/",),
    "starlette": ("service/",),
    "uvicorn": ("service/",),
    "httpx": ("client/", "cluster/"),
}
NO_TORCH = (
    "errors.py",
    "files.py",
    "logs.py",
    "types.py",
    "config/",
    "space/",
    "analysis/",
    "cost/table.py",
    "cost/memory.py",
    "cost/composite.py",
    "latency/attach.py",
    "latency/files.py",
    "latency/predictor.py",
    "latency/surface.py",
    "latency/table.py",
    "store/",
    "cli/",
    "controllers/",
    "service/",
    "client/",
    "cluster/",
)


def imports(path: Path) -> Iterator[str]:
    """Every import at run time; what stands under ``if TYPE_CHECKING`` costs nothing."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""


def relative(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_imports_point_downwards(path: Path) -> None:
    part = relative(path).split("/")[0].removesuffix(".py")
    if part in ANYTHING or relative(path) in EXCEPTIONS:
        return
    assert part in MAY_IMPORT, f"a new part {part!r}: say here what it may import"
    used = {name.split(".")[1] for name in imports(path) if name.startswith("autoprune.")}
    assert used <= MAY_IMPORT[part] | {part}, f"{relative(path)} imports {sorted(used - MAY_IMPORT[part] - {part})}"


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_libraries_stay_where_they_belong(path: Path) -> None:
    used = {name.split(".")[0] for name in imports(path)}
    for library, places in ONLY_IN.items():
        assert library not in used or relative(path).startswith(places), f"{relative(path)} imports {library}"
    if relative(path).startswith(NO_TORCH):
        assert "torch" not in used, f"{relative(path)} imports torch"


def test_files_are_small() -> None:
    too_long = {relative(path): n for path in FILES if (n := len(path.read_text().splitlines())) > 400}
    assert not too_long


def test_no_unsafe_loading() -> None:
    """Nothing is unpickled, and torch.load runs only with weights_only=True."""
    for path in FILES:
        text = path.read_text()
        # Ray Tune leaves a worker's exception as a pickle in a temporary folder of the driver's own
        allowed = 1 if relative(path) == "executors/ray_slots.py" else 0
        assert text.count("pickle.load") <= allowed, path
        for call in (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)):
            if ast.unparse(call.func) == "torch.load":
                assert {"weights_only": "True"}.items() <= {k.arg: ast.unparse(k.value) for k in call.keywords}.items()


@pytest.mark.parametrize("module", ["autoprune", "autoprune.cli.main", "autoprune.config.schema", "autoprune.analysis"])
def test_import_is_light(module: str) -> None:
    code = f"import sys, {module}; print([m for m in ('torch', 'ray', 'optuna', 'sqlalchemy') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout.strip() == "[]"
