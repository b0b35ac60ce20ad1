"""What changed between two runs, or between two sets of runs: settings, scores, costs, and whether it is certain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from featstore.errors import ConfigError, FeatstoreError
from featstore.metrics import METRICS, bounds_of
from featstore.results.bootstrap import PairedBootstrap, paired_bootstrap_of_runs
from featstore.results.costs import COSTS, cost_text
from featstore.results.frames import feature_fields, flatten, metrics_in
from featstore.results.records import RunRecord
from featstore.results.run_set import RunSet
from featstore.results.significance import Comparison, TestName, as_family, compare
from featstore.units import counted

__all__ = ["RunsDiff", "diff_runs"]

_FACTS = ("dataset", "model", "feature", "task", "parameters", "seed", "fold")


@dataclass(frozen=True)
class RunsDiff:
    """Differences of two sets of runs, ``b`` against ``a``.

    Attributes
    ----------
    n_a, n_b : int
        Runs on both sides.
    settings : dict
        Setting or fact -> (values on side a, values on side b), only where the two differ.
    same : int
        Settings that are equal.
    scores : dict
        ``<split>.<metric>`` -> comparison, b − a; Holm's correction is over the metrics of one split.
    bootstrap : dict
        Metric -> paired bootstrap over the test tracks, b − a, where both sides kept predictions.
    costs : dict
        Cost -> (mean of a, mean of b), only where they differ.
    warnings : tuple of str
        Why the comparison may not mean what it seems to.
    """

    n_a: int
    n_b: int
    settings: dict[str, tuple[list[Any], list[Any]]]
    same: int
    scores: dict[str, Comparison]
    bootstrap: dict[str, PairedBootstrap]
    costs: dict[str, tuple[float, float]]
    warnings: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain values for ``--json``."""
        return {
            "runs": {"a": self.n_a, "b": self.n_b},
            "settings": {name: {"a": a, "b": b} for name, (a, b) in self.settings.items()},
            "same_settings": self.same,
            "scores": {name: comparison.as_json() for name, comparison in self.scores.items()},
            "bootstrap": {name: b.as_json() for name, b in self.bootstrap.items()},
            "costs": {name: {"a": a, "b": b} for name, (a, b) in self.costs.items()},
            "warnings": list(self.warnings),
        }


def diff_runs(
    a: RunSet, b: RunSet, *, test: TestName = "welch", bootstrap: bool = True, resamples: int = 1000
) -> RunsDiff:
    """Compare two sets of runs, each a run or more.

    Parameters
    ----------
    a, b : RunSet
        Differences are b − a.
    bootstrap : bool
        Resample the test tracks as well, where both sides kept predictions.

    Raises
    ------
    ConfigError
        When a side has no runs.
    """
    for side, name in ((a, "first"), (b, "second")):
        if not len(side):
            raise ConfigError(f"the {name} side has no finished run", "report diff", "Check the path")
    settings, same = _settings(a, b)
    scores: dict[str, Comparison] = {}
    for split in ("test", "valid", "train"):
        metrics = [m for m in metrics_in(a.frame, split) if m in metrics_in(b.frame, split)]
        found = {
            f"{split}.{m}": compare(_values(b, m, split), _values(a, m, split), test=test, bounds=bounds_of(m))
            for m in metrics
        }
        scores |= dict(zip(found, as_family(found.values()), strict=True))
    resampled, warnings = _bootstrap(a, b, scores, resamples) if bootstrap else ({}, [])
    return RunsDiff(
        len(a), len(b), settings, same, scores, resampled, _costs(a, b), (*_warnings(a, b, settings), *warnings)
    )


def _settings(a: RunSet, b: RunSet) -> tuple[dict[str, tuple[list[Any], list[Any]]], int]:
    """Facts and settings whose values differ between the sides, and how many do not."""
    first, second = _all_settings(a), _all_settings(b)
    values = {name: (first.get(name, []), second.get(name, [])) for name in first | second}
    different = {name: pair for name, pair in values.items() if pair[0] != pair[1]}
    return different, len(values) - len(different)


def _all_settings(runs: RunSet) -> dict[str, list[Any]]:
    """Every value that a setting takes among the runs, in a fixed order."""
    found: dict[str, dict[str, Any]] = {}
    for record in runs:
        for name, value in (_facts(record) | flatten(record.config)).items():
            found.setdefault(name, {})[str(value)] = value
    return {name: [values[key] for key in sorted(values)] for name, values in found.items()}


def _facts(record: RunRecord) -> dict[str, Any]:
    result = record.result
    facts: dict[str, Any] = {name: result.get(name) for name in _FACTS} | {"store": record.store_fingerprint}
    facts |= feature_fields(record)
    for key, prefix in (("n_tracks", "n_tracks."), ("versions", "version of ")):
        found = result.get(key)
        facts |= {f"{prefix}{name}": value for name, value in (found.items() if isinstance(found, dict) else ())}
    return facts


def _values(runs: RunSet, metric: str, split: str) -> list[float]:
    return [record.score(metric, split) for record in runs]


def _costs(a: RunSet, b: RunSet) -> dict[str, tuple[float, float]]:
    means = {name: (float(a.frame[name].mean()), float(b.frame[name].mean())) for name in COSTS}
    return {name: pair for name, pair in means.items() if pair[0] != pair[1] and not np.isnan(pair).all()}


def _bootstrap(
    a: RunSet, b: RunSet, scores: dict[str, Comparison], resamples: int
) -> tuple[dict[str, PairedBootstrap], list[str]]:
    """Resample the test tracks, for every metric that predictions give; the reasons where that is not possible."""
    found: dict[str, PairedBootstrap] = {}
    for metric in METRICS:
        if f"test.{metric}" not in scores:
            continue
        try:
            result = paired_bootstrap_of_runs(b, a, metric, resamples=resamples)
        except FeatstoreError as error:
            return found, [f"no bootstrap over tracks: {error}"]
        if result is not None:
            found[metric] = result
    return found, []


def _warnings(a: RunSet, b: RunSet, settings: dict[str, tuple[list[Any], list[Any]]]) -> list[str]:
    """Reasons to doubt the comparison."""
    found = []
    if "dataset" in settings:
        found.append("the two sides were scored on different data sets: their scores cannot be compared")
    elif "n_tracks.test" in settings:
        found.append("the two sides were scored on test splits of different sizes")
    overlap = {record.path for record in a} & {record.path for record in b}
    if overlap:
        found.append(f"{len(overlap)} runs are on both sides")
    for side, name in ((a, "first"), (b, "second")):
        if (count := side.frame["configuration"].nunique()) > 1:
            found.append(
                f"the {name} side holds {count} different configurations: its deviation is not over seeds only"
            )
    return found


def describe_diff(diff: RunsDiff) -> str:
    """The differences as text for a terminal."""
    from featstore.results.tables import format_rows

    lines = [f"warning: {text}" for text in diff.warnings]
    lines += [f"{counted(diff.n_a, 'run')} against {counted(diff.n_b, 'run')}; {diff.same} settings are the same", ""]
    rows = [[name, _joined(a), _joined(b)] for name, (a, b) in diff.settings.items() if name not in ("seed", "fold")]
    if any(row[0] not in ("feature", "name") for row in rows):  # the long name only repeats what its fields say
        rows = [row for row in rows if row[0] != "feature"]
    lines += [format_rows(["setting", "A", "B"], rows, "text") if rows else "All settings are the same.", ""]
    scores = [
        [
            name,
            f"{c.mean_b:.4f}",
            f"{c.mean_a:.4f}",
            f"{c.difference:+.4f}",
            "" if np.isnan(c.low) else f"[{c.low:+.4f}, {c.high:+.4f}]",
            "" if np.isnan(c.p) else f"{c.p:.3g}",
            "" if np.isnan(c.p_holm) else f"{c.p_holm:.3g}",
        ]
        for name, c in diff.scores.items()
    ]
    heads = ["score", "A", "B", "B − A", "95 % interval", "p", "p (Holm)"]
    lines += [format_rows(heads, scores, "text") if scores else "The two sides share no metric.", ""]
    first = next(iter(diff.scores.values()), None)
    if first is not None and np.isnan(first.p):
        lines += [f"Not tested: n = {first.n_b} and {first.n_a}; a test needs at least 2 on both sides.", ""]
    elif first is not None:
        lines += [f"{first.title}, two-sided, n = {first.n_b} and {first.n_a}, ddof = {first.ddof}.", ""]
    lines += [f"over test tracks: {result}" for result in diff.bootstrap.values()]
    lines += [f"{name}: {_cost(name, a)} → {_cost(name, b)}" for name, (a, b) in diff.costs.items()]
    return "\n".join(lines).rstrip()


def _cost(name: str, value: float) -> str:
    return "–" if np.isnan(value) else cost_text(name, value)


def _joined(values: list[Any]) -> str:
    texts = ["–" if value is None else str(value) for value in values]
    text = ", ".join(texts[:6]) + (f", … ({len(texts)})" if len(texts) > 6 else "")
    return text if len(text) <= 60 else text[:59] + "…"
