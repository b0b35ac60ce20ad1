"""Which configurations of a recipe are run: every feature with every model, narrowed by conditions in plain words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from featstore.errors import ConfigError, check_known, did_you_mean
from featstore.extract.plan import make_plan
from featstore.features import resolve
from featstore.specs import FeatureRequest, FeatureSpec
from featstore.specs.encoding import MEASURED, Encoding
from featstore.specs.scale import Scale
from featstore.typed_values import build

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ModelPlan", "Selection", "configurations", "select", "split_only"]

STAGES = ("data", "extract", "train", "shift", "report")
_SIGNS = "=<>~"


@dataclass(frozen=True, slots=True)
class ModelPlan:
    """A model of a recipe, its own settings, and the conditions under which it is trained.

    Attributes
    ----------
    model : str
        An entry of ``featstore.models.MODELS``.
    only : tuple of str
        Conditions on configurations, such as ``encoding=float32``.
    settings : dict
        Of training, by section, over the recipe's.
    name : str
        Folder of its runs; by default the model's name. A recipe may train one model in several ways.
    pretrain : dict
        Settings of a run on the same features that comes first and whose weights it starts from; none where empty.
    together : bool
        All its features are one input, stacked or by name, instead of a run for each.
    features : tuple of str
        Features of its own, in place of the recipe's.
    """

    model: str
    only: tuple[str, ...] = ()
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    name: str = ""
    pretrain: dict[str, dict[str, Any]] = field(default_factory=dict)
    together: bool = False
    features: tuple[str, ...] = ()

    @classmethod
    def read(cls, entry: Any, where: str) -> ModelPlan:
        """Read an entry of ``models:``, a name or a mapping.

        Raises
        ------
        ConfigError
            For anything else, an unknown key, or a model that does not exist.
        """
        from featstore.models import MODELS

        entry = {"model": entry} if isinstance(entry, str) else entry
        if not isinstance(entry, Mapping) or entry.get("model") is None:
            raise ConfigError(f"{entry!r} is no model", where, "Write a name, or {model: NAME, settings: {…}}")
        only = entry.get("only")
        plan = build(cls, {**entry, "only": [only] if isinstance(only, str) else only}, f"{where}: models")
        check_known(plan.model, MODELS, f"unknown model {plan.model!r}", where)
        return plan if plan.name else replace(plan, name=plan.model)


@dataclass(frozen=True, slots=True)
class Selection:
    """What is extracted and what is trained.

    Attributes
    ----------
    features : dict of str to list of FeatureRequest
        Name of a model's plan to the features that it is trained on, in the recipe's order.
    stored : list of FeatureRequest
        All of these, and the arrays that the whole recipe would store for them: a selection that grows later finds
        its base there. In place of what is derived, the vectors that it is derived from.
    derived : list of FeatureRequest
        Whole numbers on ranges that only stored vectors tell: derived after the extraction.
    """

    features: dict[str, list[FeatureRequest]]
    stored: list[FeatureRequest]
    derived: list[FeatureRequest] = field(default_factory=list)


def split_only(
    only: Sequence[str], where: str, experiments: Sequence[str] = ()
) -> tuple[list[str], list[str], list[str]]:
    """Stages, experiments, and conditions on configurations, from the values of ``--only``.

    Raises
    ------
    ConfigError
        For a text that is neither.

    Examples
    --------
    >>> split_only(["train", "n_mels=48|96"], "ferraro2020")
    (['train'], [], ['n_mels=48|96'])
    """
    words = [text for text in only if not any(sign in text for sign in _SIGNS)]
    for word in words:
        if word not in (*STAGES, *experiments):
            hint = did_you_mean(word, [*STAGES, *experiments])
            raise ConfigError(f"unknown stage {word!r}", where, f"{hint}; or a condition such as n_mels=48|96")
    stages = [word for word in words if word in STAGES]
    return stages, [word for word in words if word not in STAGES], [text for text in only if text not in words]


def configurations(requests: Sequence[FeatureRequest]) -> pd.DataFrame:
    """Features as a table that conditions can be put to.

    Returns
    -------
    DataFrame
        A row a feature: ``feature``, ``representation``, ``encoding``, ``hop_multiple`` (of the finest hop among the
        features that differ in hop and scale alone), and each field of its spec.
    """
    import pandas as pd

    finest: dict[FeatureSpec, int] = {}
    for request in requests:
        key = _but_hop(request.spec)
        finest[key] = min(finest.get(key, request.spec.frame_step), request.spec.frame_step)
    rows = []
    for request in requests:
        spec = request.spec
        row = {each.name: _plain(getattr(spec, each.name)) for each in fields(spec)}
        ratio, rest = divmod(spec.frame_step, finest[_but_hop(spec)])
        row |= {
            "feature": str(request),
            "representation": spec.kind,
            "encoding": request.encoding.name if request.encoding else "float32",
            "hop_multiple": None if rest else ratio,
        }
        rows.append(row)
    return pd.DataFrame(rows)


def _but_hop(spec: FeatureSpec) -> FeatureSpec:
    """The spec with hop and scale set to fixed values, as far as it has them."""
    fixed: dict[str, Any] = {"hop_length": 1, "scale": "power"}
    return spec.replace(**{name: value for name, value in fixed.items() if hasattr(spec, name)})


def _plain(value: Any) -> Any:
    if isinstance(value, Scale):
        return value.short()
    return value if isinstance(value, int | float | str) or value is None else str(value)


def select(
    requests: Sequence[FeatureRequest],
    models: Sequence[ModelPlan],
    conditions: Sequence[str],
    where: str,
    own: Mapping[str, Sequence[FeatureRequest]] | None = None,
) -> Selection:
    """Choose the features of each model.

    Parameters
    ----------
    requests : sequence of FeatureRequest
        All features of the recipe.
    own : mapping of str to sequence of FeatureRequest, optional
        Name of a plan to the features that it takes in place of these.
    models : sequence of ModelPlan
    conditions : sequence of str
        All must hold, besides the model's own; as in ``featstore report --where``, with ``model`` as one more column.
    where : str
        Of the recipe, for messages.

    Raises
    ------
    ConfigError
        For a text that is no condition, an unknown column, or when nothing is left.
    """
    from featstore.results import where as matching

    given = own or {}
    table = configurations(requests)
    chosen: dict[str, list[FeatureRequest]] = {}
    for plan in models:
        there = given.get(plan.name, requests)
        known = configurations(there) if plan.name in given else table
        kept = matching(known.assign(model=plan.model), [*plan.only, *conditions])
        if len(kept):
            chosen[plan.name] = [there[row] for row in kept.index]
    if not chosen:
        raise ConfigError(
            f"no configuration meets {', '.join(conditions) or 'the conditions of its models'}",
            where,
            "Loosen --only; `featstore recipe show` prints the grid",
        )
    everything = [*requests, *(each for more in given.values() for each in more)]
    derived = [each for each in everything if _is_measured(each)]
    floats = {str(each): FeatureRequest(each.spec) for each in derived}
    stored = {name: [floats.get(str(each), each) for each in features] for name, features in chosen.items()}
    bases = _with_bases([floats.get(str(each), each) for each in everything], stored)
    asked = {str(each) for features in chosen.values() for each in features}
    return Selection(chosen, bases, [each for each in derived if str(each) in asked])


def _is_measured(request: FeatureRequest) -> bool:
    """Whether an encoding needs ranges that only stored vectors tell."""
    encoding = request.encoding and resolve(request).encoding
    return encoding is not None and encoding.ranges == MEASURED


def _with_bases(
    requests: Sequence[FeatureRequest], chosen: Mapping[str, Sequence[FeatureRequest]]
) -> list[FeatureRequest]:
    """Features of all models, each once, after the arrays that hold them when the whole recipe is extracted."""
    plan = make_plan(list(requests))
    headers = {header.key: header for header in plan.headers}
    wanted: dict[str, FeatureRequest] = {}
    for request in (each for features in chosen.values() for each in features):
        key, _ = plan.views[f"{request.spec}@{request.encoding or Encoding.default(request.spec)}"]
        base = FeatureRequest(headers[key].spec, headers[key].encoding)
        wanted[str(base)] = base
        wanted[str(request)] = request
    return list(wanted.values())
