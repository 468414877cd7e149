"""autoprune: give it a trained network and a budget; it searches how many channels each layer should keep.

    search, resume, report          run a search from a launch file, go on with it, write its report
    prepare                         the trainings that come before a search: base model, hypernetwork
    search_module                   search a module in hand by a function of your own
    searches, trials, front, select query the store: what ran, the Pareto front, the model that fits the budgets
    history                         how the hypervolume of the front grew, trial by trial
    compare                         candidates trained to their end, with inherited and with new weights
    audit                           how well the search's own ranking agrees with training to the end
    criteria_report                 which criterion ranks channels as an oracle does that tries each of them
    prune                           the whole pruning procedure of a paper, by name
    retrain                         one of them, exported as a finished model
    export, load_model, space       hand a pruned model over, read it back, look at what can be pruned
    export_module                   any module as ONNX, torch.export or TorchScript, verified
    latency_table, measure_latency  what networks take on this machine, predicted for a whole space or measured for one
    bench_export                    dense against pruned latency in onnxruntime
    Client                          the same verbs against a server of 'autoprune serve'
    SearchSpace, Decoder            groups and widths of any nn.Module; proposals moved into budgets
    CostTable                       MACs and parameters of a million candidates as numpy
    Candidate, Trial, Front         the nouns (all of them: autoprune.types)
    AutopruneError                  what every function raises on purpose (autoprune.errors draws the tree)

Importing the package imports neither torch nor Ray; each name is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autoprune.analysis.front import Front
    from autoprune.api import (
        audit,
        bench_export,
        compare,
        criteria_report,
        export,
        export_module,
        front,
        history,
        latency_table,
        load_model,
        prepare,
        prune,
        report,
        resume,
        retrain,
        search,
        search_module,
        searches,
        select,
        space,
        trials,
    )
    from autoprune.client import Client
    from autoprune.cost.table import CostTable
    from autoprune.errors import AutopruneError
    from autoprune.latency.measure import measure_latency
    from autoprune.pruning.slicing import slice_model
    from autoprune.space.decoding import Decoder
    from autoprune.space.space import SearchSpace
    from autoprune.types import Candidate, Trial

__version__ = "0.1.0"

_HOMES = {
    **dict.fromkeys(
        (
            "audit",
            "bench_export",
            "compare",
            "criteria_report",
            "export",
            "export_module",
            "front",
            "history",
            "latency_table",
            "load_model",
            "prepare",
            "prune",
            "report",
            "resume",
            "retrain",
            "search",
            "search_module",
            "searches",
            "select",
            "space",
            "trials",
        ),
        "autoprune.api",
    ),
    "AutopruneError": "autoprune.errors",
    "Candidate": "autoprune.types",
    "Client": "autoprune.client",
    "CostTable": "autoprune.cost.table",
    "Decoder": "autoprune.space.decoding",
    "Front": "autoprune.analysis.front",
    "SearchSpace": "autoprune.space.space",
    "Trial": "autoprune.types",
    "measure_latency": "autoprune.latency.measure",
    "slice_model": "autoprune.pruning.slicing",
}

__all__ = [
    "AutopruneError",
    "Candidate",
    "Client",
    "CostTable",
    "Decoder",
    "Front",
    "SearchSpace",
    "Trial",
    "audit",
    "bench_export",
    "compare",
    "criteria_report",
    "export",
    "export_module",
    "front",
    "history",
    "latency_table",
    "load_model",
    "measure_latency",
    "prepare",
    "prune",
    "report",
    "resume",
    "retrain",
    "search",
    "search_module",
    "searches",
    "select",
    "slice_model",
    "space",
    "trials",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'autoprune' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
