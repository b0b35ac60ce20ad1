"""Results: run records read from folders, averaged, compared, queried and shown.

``read_results`` finds runs below any folders, ``summarise`` averages them with their uncertainty, ``pareto`` bounds
what each configuration loses against the best and finds those worth their bytes, ``answer_sentences`` says it in
words, ``write_html`` writes an interactive page. Published numbers are kept
separate from measured ones. Called as a function, ``featstore.results("runs")``, it is
:func:`featstore.workflows.toplevel.results`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from featstore.callable_package import make_callable

if TYPE_CHECKING:
    from featstore.results.bootstrap import PairedBootstrap as PairedBootstrap
    from featstore.results.bootstrap import paired_bootstrap as paired_bootstrap
    from featstore.results.choices import Choice as Choice
    from featstore.results.choices import fit_budget as fit_budget
    from featstore.results.choices import good_enough as good_enough
    from featstore.results.choices import minimise as minimise
    from featstore.results.conditions import where as where
    from featstore.results.details import read_curves as read_curves
    from featstore.results.details import read_predictions as read_predictions
    from featstore.results.diff import diff_runs as diff_runs
    from featstore.results.figure_pareto import plot_pareto as plot_pareto
    from featstore.results.frames import runs_frame as runs_frame
    from featstore.results.fronts import ParetoFront as ParetoFront
    from featstore.results.fronts import pareto as pareto
    from featstore.results.page import write_html as write_html
    from featstore.results.records import RunRecord as RunRecord
    from featstore.results.records import SkippedRun as SkippedRun
    from featstore.results.reference import join_published as join_published
    from featstore.results.reference import read_reference as read_reference
    from featstore.results.run_set import RunSet as RunSet
    from featstore.results.run_set import read_results as read_results
    from featstore.results.schema import write_result as write_result
    from featstore.results.sentences import answer_sentences as answer_sentences
    from featstore.results.significance import Comparison as Comparison
    from featstore.results.significance import compare as compare
    from featstore.results.significance import compare_stats as compare_stats
    from featstore.results.significance import holm as holm
    from featstore.results.sql import query as query
    from featstore.results.summary import summarise as summarise
    from featstore.results.tables import format_table as format_table
    from featstore.results.undertrained import mark_undertrained as mark_undertrained

_HOMES = {
    "Choice": "choices",
    "Comparison": "significance",
    "PairedBootstrap": "bootstrap",
    "ParetoFront": "fronts",
    "RunRecord": "records",
    "RunSet": "run_set",
    "SkippedRun": "records",
    "answer_sentences": "sentences",
    "compare": "significance",
    "compare_stats": "significance",
    "diff_runs": "diff",
    "fit_budget": "choices",
    "format_table": "tables",
    "good_enough": "choices",
    "holm": "significance",
    "join_published": "reference",
    "minimise": "choices",
    "paired_bootstrap": "bootstrap",
    "pareto": "fronts",
    "plot_pareto": "figure_pareto",
    "query": "sql",
    "read_curves": "details",
    "read_predictions": "details",
    "read_reference": "reference",
    "read_results": "run_set",
    "runs_frame": "frames",
    "mark_undertrained": "undertrained",
    "summarise": "summary",
    "where": "conditions",
    "write_html": "page",
    "write_result": "schema",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__


make_callable(__name__, "featstore.workflows.toplevel:results")
