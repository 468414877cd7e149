"""What the command line, a service and notebooks call: one function a verb, all light to import.

Stores are given as URLs; the default is ``$AUTOPRUNE_STORE`` or ``sqlite:///results/autoprune.db``.
"""

from __future__ import annotations

from autoprune.api.auditing import AuditResult, audit, stored_audits
from autoprune.api.comparing import CompareResult, compare
from autoprune.api.controller_benchmark import ControllerBenchmarkResult, benchmark_controllers
from autoprune.api.criteria_listing import CriterionInfo, criteria
from autoprune.api.criteria_reporting import CriteriaReportResult, criteria_report
from autoprune.api.doctor import doctor
from autoprune.api.export_bench import ExportBench, bench_export
from autoprune.api.findings import Finding, Findings
from autoprune.api.latency import latency_table
from autoprune.api.maintenance_check import check_store
from autoprune.api.models import SpaceReport, export, export_module, load_model, space
from autoprune.api.module_search import ModuleSearchResult, search_module
from autoprune.api.preparing import PreparedNetwork, prepare
from autoprune.api.pruning_presets import PresetInfo, PruneResult, preset_list, prune
from autoprune.api.queries import front, history, nodes, plot, report, searches, select, trials
from autoprune.api.retraining import RetrainResult, retrain
from autoprune.api.searching import SearchResult, resume, search

__all__ = [
    "AuditResult",
    "CompareResult",
    "ControllerBenchmarkResult",
    "CriteriaReportResult",
    "CriterionInfo",
    "ExportBench",
    "Finding",
    "Findings",
    "ModuleSearchResult",
    "PreparedNetwork",
    "PresetInfo",
    "PruneResult",
    "RetrainResult",
    "SearchResult",
    "SpaceReport",
    "audit",
    "bench_export",
    "benchmark_controllers",
    "check_store",
    "compare",
    "criteria",
    "criteria_report",
    "doctor",
    "export",
    "export_module",
    "front",
    "history",
    "latency_table",
    "load_model",
    "nodes",
    "plot",
    "prepare",
    "preset_list",
    "prune",
    "report",
    "resume",
    "retrain",
    "search",
    "search_module",
    "searches",
    "select",
    "space",
    "stored_audits",
    "trials",
]
