"""The answer in words: what to keep, what it costs, what it may lose, what is worse, and what would decide."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from featstore.metrics import in_points, lower_is_better
from featstore.plain import is_missing
from featstore.results.costs import cost_text
from featstore.results.fronts import ParetoFront, cheapest_within, smallest_bound, undertrained
from featstore.results.labels import row_text
from featstore.results.losses import loss_number
from featstore.results.needed import needed_for
from featstore.units import format_bytes, format_rate

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["MARGINS", "answer_json", "answer_sentences", "cost_words", "loss_words", "what_would_decide"]

MARGINS = (0.01, 0.02, 0.05)
COLLECTION = (100_000, 210.0)  # tracks and seconds of each, for which bytes are forecast
_FIELDS = ("representation", "model", "sample_rate", "n_mels", "hop_length", "scale", "encoding")


def loss_words(metric: str, value: float, *, up: bool = True) -> str:
    """A bound on a loss with its unit, see ``loss_number``.

    Examples
    --------
    >>> loss_words("roc_auc", 0.0231), loss_words("loss", 0.02)
    ('2.4 points', '0.02')
    """
    unit = " points" if in_points(metric) else ""
    return loss_number(metric, value, up=up) + unit


def margin_words(metric: str, margin: float) -> str:
    """A margin as it was asked for.

    Examples
    --------
    >>> margin_words("roc_auc", 0.02), margin_words("roc_auc", 0.01)
    ('2 points', '1 point')
    """
    if not in_points(metric):
        return f"{margin:g}"
    return f"{100 * margin:g} point{'' if math.isclose(margin, 0.01) else 's'}"


def cost_words(row: Any, x: str) -> str:
    """What a row costs: rate and bytes, for this set and for a collection, where the axis is one of bytes."""
    if not (x.startswith("bytes") or x in ("rate_bps", "ratio_to_audio")):
        return f"{cost_text(x, row[x])} {'' if x.startswith('seconds') else x}".strip()
    here = f"{format_bytes(float(row['bytes_alone']))} for this set"
    if is_missing(row["rate_bps"]):
        return here
    rate, (tracks, seconds) = float(row["rate_bps"]), COLLECTION
    there = f"{format_bytes(rate / 8 * tracks * seconds)} for {tracks:,} tracks"
    return f"{format_rate(rate)}, {here}, {there} of {seconds // 60:.0f}:{seconds % 60:02.0f}"


def answer_sentences(front: ParetoFront) -> list[str]:
    """The answer: what to keep, other margins, what is worse, what would decide; a sentence each.

    Returns
    -------
    list of str
        At least one; without bounds (single seeds) the one that says what to do.
    """
    frame = front.frame
    if front.losses.study is None and len(frame) > 1:
        return [
            "Nothing can be called good enough yet: every configuration was trained once, and the noise of training "
            "is unknown. Train each with two more seeds. The best of the single values is that of "
            f"{frame['label'][front.best]}."
        ]
    if len(frame) == 1:
        return [f"There is one configuration, {frame['label'][0]}: {cost_words(frame.iloc[0], front.x)}."]
    found = [_keep(front), _other_margins(front), _worse(front), what_would_decide(front)]
    return [sentence for sentence in found if sentence]


def answer_json(front: ParetoFront) -> dict[str, Any]:
    """The front and its sentences as plain values, for programs."""
    return {"sentences": answer_sentences(front)} | front.as_json()


def _keep(front: ParetoFront) -> str:
    row = front.frame.iloc[smallest_bound(front.frame) if front.answer is None else front.answer]
    sure = f"{_at_most(row, front.y)} ({100 * front.losses.confidence:g} %)"
    words = f"{row['label']}: {cost_words(row, front.x)}; {sure}."
    if front.answer is not None:
        return f"Keep {words}"
    asked = margin_words(front.y, front.margin)
    return f"No configuration is known to be within {asked} of the best. The smallest bound is that of {words}"


def _at_most(row: Any, metric: str) -> str:
    side = "above" if lower_is_better(metric) else "below"
    if row["loss_most"] == 0:
        return "the best of all"
    return f"at most {loss_words(metric, float(row['loss_most']))} {side} the best"


def _other_margins(front: ParetoFront) -> str:
    """The guaranteed front in short: the answers for the usual margins."""
    parts = []
    for margin in MARGINS:
        if math.isclose(margin, front.margin):
            continue
        row = cheapest_within(front.frame, margin)
        asked = f"within {margin_words(front.y, margin)}"
        if row is None:
            parts.append(f"{asked}: none yet")
        elif row == front.answer:
            parts.append(f"{asked}: the same")
        else:
            answer = front.frame.iloc[row]
            parts.append(f"{asked}: {answer['label']} ({cost_words_short(answer, front.x)})")
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _worse(front: ParetoFront) -> str:
    """What is shown to be worse: values of a field all of whose rows are, or the worst single rows."""
    frame, metric = front.losses.frame, front.y
    frame = frame[~undertrained(frame)]  # what those lose says nothing of their representations
    worse = frame[frame["loss_least"] > 0]
    if not len(worse):
        return "No configuration is shown to be worse than the best: the data cannot tell them apart."
    named = _worse_values(frame)
    if not named:
        rows = worse.sort_values("loss_least", ascending=False, kind="stable").head(2)
        named = [(str(row["label"]), float(row["loss_least"])) for row in rows.to_dict("records")]
    text = "; ".join(f"{name}: at least {loss_words(metric, least, up=False)} worse" for name, least in named[:2])
    be = "is" if len(worse) == 1 else "are"
    return f"{text} ({len(worse)} of {len(frame)} {be} shown to be worse than the best)."


def _worse_values(frame: pd.DataFrame) -> list[tuple[str, float]]:
    """Values of a field all of whose rows are worse, with the least loss among them, the worst first."""
    found, seen = [], set()
    for name in _FIELDS:
        if name not in frame or frame[name].astype(str).nunique() < 2:
            continue
        for value, rows in frame.groupby(name, sort=False):
            least, members = float(rows["loss_least"].min()), tuple(rows.index)
            if least > 0 and members not in seen:  # a model that one representation has says the same again
                seen.add(members)
                rate = rows["sample_rate"].iloc[0] if rows["sample_rate"].nunique() == 1 else None
                found.append((row_text(name, {"sample_rate": rate, name: value}), least))
    return sorted(found, key=lambda pair: -pair[1])


def what_would_decide(front: ParetoFront) -> str:
    """What would bring the most promising cheaper configuration within the margin; empty where none is promising."""
    frame, study = front.frame, front.losses.study
    limit = len(frame) if front.answer is None else front.answer
    losses, most = (frame[name].to_numpy(dtype=float) for name in ("loss", "loss_most"))
    barred = undertrained(frame)
    promising = [row for row in range(limit) if losses[row] < front.margin < most[row] and not barred[row]]
    asked = margin_words(front.y, front.margin)
    if study is None or not promising:
        if front.answer is None or front.answer == 0:
            return ""
        return f"More seeds or tracks would not change that: everything cheaper measured a loss of {asked} or more."
    row = frame.iloc[promising[0]]
    measured = front.losses.frame["configuration"].to_list()  # of the study, in its order
    which = measured.index(row["configuration"])
    needed = needed_for(study, which, front.margin, confidence=front.losses.confidence)
    seeds, tracks = int(study.seeds.max()), study.tracks
    ways = []
    if needed.seeds is not None:
        more = needed.seeds - seeds
        if study.seeds.min() < seeds:  # more for some, or for all
            ways.append(f"about {needed.seeds} seeds each")
        else:
            ways.append("one more seed each" if more == 1 else f"about {more} more seeds each")
    if needed.tracks is not None:
        ways.append(f"about {needed.tracks - tracks} more test tracks")
    if needed.both is not None:
        more_seeds, more_tracks = needed.both[0] - seeds, needed.both[1] - tracks
        ways.append(f"about {more_seeds} more seeds each together with {more_tracks} more test tracks")
    lost = loss_words(front.y, float(row["loss"]))
    head = f"What would decide on {row['label']} ({cost_words_short(row, front.x)}, {lost} below in the mean)"
    if not ways:
        return f"{head}: more than a hundred seeds; it lies too close to the margin of {asked}."
    return f"{head}: {', or '.join(ways)}, if its mean stays as it is."


def cost_words_short(row: Any, x: str) -> str:
    """One number for the cost of a row: the rate where the axis is one of bytes and the rate is known."""
    name = "rate_bps" if x.startswith("bytes") and not is_missing(row["rate_bps"]) else x
    return cost_text(name, row[name])
