"""Error rates of what reports call good enough, in simulated studies whose truth is known.

``python -m tests.bench.bench_bounds --studies 2000 --out docs/benchmarks/bounds.jsonl`` writes a JSON line a scenario:
how often some true loss lies above its bound or below its lower bound (both should stay under 7 %), how wide the bounds
are, and, beside it, how often the rule "the cheapest that a t-test does not tell apart from the best" picks a
configuration that is truly worse. Half of the configurations, the cheap half, are worse by ``gap`` where ``worse`` is
``half``; all but one where it is ``all but one``.

``--power`` adds lines on how many seeds and test tracks a bound of a given size takes: the median bound of a
configuration that is truly as good as the best, among twelve of which half are, at each number of seeds and tracks.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from featstore.results.bounds import Study, loss_bounds


@dataclass(frozen=True)
class Scenario:
    """A kind of study: configurations, seeds, truth and noise (all scores in [0, 1])."""

    configurations: int = 20
    seeds: int = 3
    worse: str = "half"
    gap: float = 0.03
    seed_deviation: tuple[float, float] = (0.0017, 0.0174)  # log-uniform between the two
    test_deviation: float = 0.0
    test_correlation: float = 0.9

    def losses(self) -> npt.NDArray[np.float64]:
        """True loss of each configuration against the best; the cheapest come first."""
        loss = np.zeros(self.configurations)
        loss[: self.configurations // 2 if self.worse == "half" else -1] = self.gap
        return loss


SCENARIOS = (
    Scenario(),
    Scenario(gap=0.012),
    Scenario(gap=0.012, seeds=5),
    Scenario(gap=0.012, seeds=10),
    Scenario(seed_deviation=(0.002, 0.010)),
    Scenario(worse="all but one"),
    Scenario(worse="all but one", configurations=6),
    Scenario(worse="all but one", test_deviation=0.004),
    Scenario(worse="all but one", test_deviation=0.004, seeds=2),
    Scenario(worse="all but one", test_deviation=0.004, seeds=5),
    Scenario(worse="all but one", test_deviation=0.004, seeds=10),
    Scenario(worse="all but one", test_deviation=0.015, test_correlation=0.98),
    Scenario(worse="all but one", gap=0.0, seed_deviation=(0.002, 0.015), test_deviation=0.004),
    Scenario(worse="all but one", seed_deviation=(0.004, 0.004), test_deviation=0.004),
)


# what the built-in music with 48 test clips shows: deviations over seeds of 0.002 to 0.010, and a score that other test
# clips would move by 0.02, nine tenths of it for all configurations alike
POWER = Scenario(configurations=12, gap=0.04, seed_deviation=(0.002, 0.010), test_deviation=0.02, test_correlation=0.9)
POWER_TRACKS, POWER_SEEDS = (50, 200, 400, 1000, 4000), (2, 3, 5, 10, 20)


def simulate(scenario: Scenario, studies: int, *, seed: int = 0, draws: int = 1500) -> dict[str, Any]:
    """Run one scenario.

    Returns
    -------
    dict
        ``above``, ``below``: share of studies in which some true loss lies outside its bounds; ``t_test_picks_worse``:
        share in which the older rule's answer is truly worse (None where none is); ``median_bound``.
    """
    rng = np.random.default_rng(seed)
    n, loss = scenario.configurations, scenario.losses()
    rho = scenario.test_correlation
    covariance = scenario.test_deviation**2 * (rho + (1 - rho) * np.eye(n))
    low, high = np.log(scenario.seed_deviation)
    above = below = picked = 0
    widths = []
    for study in range(studies):
        deviation = np.exp(rng.uniform(low, high, n))
        shared = rng.multivariate_normal(np.zeros(n), covariance)
        scores = (shared - loss)[:, None] + deviation[:, None] * rng.standard_normal((n, scenario.seeds))
        means, variances = scores.mean(axis=1), scores.var(axis=1, ddof=1)
        found = loss_bounds(
            Study(means, variances, np.full(n, scenario.seeds), covariance, 100), draws=draws, seed=study
        )
        above += bool((loss > found.most + 1e-12).any())
        below += bool((loss < found.least - 1e-12).any())
        picked += loss[_cheapest_not_told_apart(scores)] > 0
        widths.append(float(np.median(found.most)))
    return {
        "above": above / studies,
        "below": below / studies,
        "t_test_picks_worse": picked / studies if scenario.gap else None,
        "median_bound": round(float(np.median(widths)), 4),
    }


def power(seeds: int, tracks: int, studies: int, *, seed: int = 0, draws: int = 1000) -> float:
    """Median bound of a configuration that is as good as the best, in studies of ``POWER`` at another size."""
    rng = np.random.default_rng(seed)
    n, loss, rho = POWER.configurations, POWER.losses(), POWER.test_correlation
    covariance = POWER.test_deviation**2 * 48 / tracks * (rho + (1 - rho) * np.eye(n))
    low, high = np.log(POWER.seed_deviation)
    found = []
    for study in range(studies):
        deviation = np.exp(rng.uniform(low, high, n))
        shared = rng.multivariate_normal(np.zeros(n), covariance)
        scores = (shared - loss)[:, None] + deviation[:, None] * rng.standard_normal((n, seeds))
        means, variances = scores.mean(axis=1), scores.var(axis=1, ddof=1)
        bounds = loss_bounds(Study(means, variances, np.full(n, seeds), covariance, tracks), draws=draws, seed=study)
        found.extend(bounds.most[loss == 0])
    return float(np.median(found))


def _cheapest_not_told_apart(scores: npt.NDArray[np.float64], alpha: float = 0.05) -> int:
    """First row that Welch's test does not tell from the best one, uncorrected: the rule that bounds replace."""
    best = scores[int(scores.mean(axis=1).argmax())]
    p = stats.ttest_ind(scores, best[None, :], axis=1, equal_var=False).pvalue
    return int(np.flatnonzero(~(p < alpha))[0])


def main(arguments: Sequence[str] | None = None) -> None:
    """Simulate all scenarios and print or write their lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=2000)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--power", action="store_true", help="only the lines on seeds and tracks")
    options = parser.parse_args(arguments)
    lines = []
    for seeds, tracks in itertools.product(POWER_SEEDS, POWER_TRACKS) if options.power else ():
        bound = round(power(seeds, tracks, options.studies), 4)
        row = {"benchmark": "bounds power", **asdict(POWER) | {"seeds": seeds}, "tracks": tracks}
        lines.append(json.dumps(row | {"studies": options.studies, "median_bound_of_equals": bound}))
        print(lines[-1], flush=True)
    for scenario in () if options.power else SCENARIOS:
        start = time.perf_counter()
        row = {"benchmark": "bounds", **asdict(scenario), "studies": options.studies}
        row |= simulate(scenario, options.studies) | {"seconds": round(time.perf_counter() - start, 1)}
        lines.append(json.dumps(row))
        print(lines[-1], flush=True)
    if options.out:
        with options.out.open("a") as file:
            file.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
