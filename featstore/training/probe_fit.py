"""Weights of a probe: layer, scale, L2 strength and learning rate are chosen on the validation split.

A linear probe of one layer is logistic regression with an L2 penalty on the weights, solved to convergence along a path
of strengths: two runs give the same numbers, whatever their seed. A hidden layer, or a mixture of layers, is trained
with Adam at each of several learning rates, as the ranking of encoders is known to depend on the rate.

Beside it, k nearest neighbours by cosine on the chosen layer: what the vectors give without training.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from featstore.log import progress
from featstore.metrics import METRICS, is_better, one_hot
from featstore.models.probe import Probe
from featstore.training.config import TrainConfig
from featstore.training.losses import make_loss, probabilities

__all__ = ["Vectors", "fit_probe", "nearest_scores", "solve_logistic"]

logger = logging.getLogger(__name__)

NEIGHBOURS = (1, 3, 5, 10, 20)
_TOLERANCE = 1e-7

Array = NDArray[np.float64]
Tried = tuple[dict[str, Any], float, dict[str, torch.Tensor]]
"""What was chosen, its score on the validation split, and the weights for standardised vectors."""


@dataclass(frozen=True, slots=True)
class Vectors:
    """Vectors of a split, averaged over windows, and its targets.

    Attributes
    ----------
    values : float32 (tracks, layers, dimensions)
    targets : float32 (tracks, classes) of 0 and 1, or int64 (tracks,)
    """

    values: NDArray[np.float32]
    targets: NDArray[Any]


def fit_probe(model: Probe, parts: dict[str, Vectors], monitor: str, config: TrainConfig) -> dict[str, Any]:
    """Set the weights of a probe.

    Parameters
    ----------
    model : Probe
        Changed in place.
    parts : dict of str to Vectors
        ``train`` and ``valid``, and further splits that the neighbours are scored on.
    monitor : str
        The score of the validation split that chooses.
    config : TrainConfig
        Whose epochs, patience, batch size and seed gradient descent takes; a patience of 0 never stops early.

    Returns
    -------
    dict
        What was chosen, with the validation score of everything that was tried, and the neighbours' scores.
    """
    search = _solved if model.config.is_convex else _descents
    tried: list[dict[str, Any]] = []
    best: tuple[dict[str, Any], dict[str, torch.Tensor], dict[str, Vectors]] | None = None
    settings = model.config.strengths if model.config.is_convex else model.config.rates
    total = len(settings) * (1 if model.config.layer == "mix" else len(_candidates(model)))
    for scale in _scales(model):
        standard = _standardise(model, parts, scale)
        fits = search(model, standard, monitor, config)
        for choice, score, state in progress(fits, total=total, desc="fit probe", unit="fit"):
            tried.append({**choice, monitor: score, "standardise": scale})
            if best is None or is_better(monitor, score, best[0][monitor]):
                best = tried[-1], state | {"mean": model.mean.clone(), "std": model.std.clone()}, standard
    assert best is not None
    chosen, state, standard = best
    model.load_state_dict(state, strict=False)
    solver = "logistic regression, L-BFGS" if model.config.is_convex else "Adam"
    found = {"solver": solver, "deterministic": model.config.is_convex, **chosen, "tried": tried}
    found[f"valid_{monitor}"] = found.pop(monitor)
    if model.mixture is not None:
        found["mixture"] = _shares(model).tolist()
    if chosen.get("strength") in (min(model.config.strengths), max(model.config.strengths)):
        logger.warning(
            "the L2 strength %g is the first or last of model.strengths: try further ones", chosen["strength"]
        )
    layer = int(np.argmax(_shares(model)))
    found["neighbours"] = _neighbours(standard, layer, model.config.n_classes, monitor)
    return found


def _scales(model: Probe) -> tuple[str, ...]:
    """How vectors may be scaled: both ways where that is chosen, which costs gradient descent twice the time."""
    if model.config.standardise != "auto":
        return (model.config.standardise,)
    return ("dimension", "common") if model.config.is_convex else ("dimension",)


def _standardise(model: Probe, parts: dict[str, Vectors], scale: str) -> dict[str, Vectors]:
    """Scale vectors with the training split's statistics, and keep these in the model."""
    train = parts["train"].values
    mean, std = train.mean(axis=0, dtype=np.float64), train.std(axis=0, dtype=np.float64)
    if scale == "common":  # one for all dimensions of a layer: their proportions stay
        std = np.broadcast_to(np.sqrt((std**2).mean(axis=-1, keepdims=True)), std.shape)
    std = np.where(std > 1e-6, std, 1.0)
    model.mean.copy_(torch.from_numpy(mean))
    model.std.copy_(torch.from_numpy(std))
    return {
        name: Vectors(((part.values - mean) / std).astype(np.float32), part.targets) for name, part in parts.items()
    }


def _shares(model: Probe) -> NDArray[Any]:
    share = model.share if model.mixture is None else model.mixture.detach().softmax(dim=0)
    return np.asarray(share.detach().cpu())


def _candidates(model: Probe) -> list[int]:
    """Places of the layers to try."""
    return list(range(model.config.n_layers)) if model.config.layer == "auto" else [int(model.config.layer)]


def _score(monitor: str, part: Vectors, logits: Array) -> float:
    if monitor == "loss":
        return float(_loss(torch.from_numpy(logits), torch.from_numpy(part.targets)))
    found = probabilities(torch.from_numpy(logits), _task(part.targets)).numpy()
    return float(METRICS.load(monitor)(part.targets, found).value)


def _task(targets: NDArray[Any]) -> str:
    return "single_label" if targets.ndim == 1 else "multi_label"


def _loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean over the tracks of their losses: one for all classes, or the sum of those of the tags."""
    if targets.ndim == 1:
        return functional.cross_entropy(logits, targets)
    return functional.binary_cross_entropy_with_logits(logits, targets.to(logits), reduction="sum") / len(logits)


# -- convex ------------------------------------------------------------------------------------------------------------


def _solved(model: Probe, parts: dict[str, Vectors], monitor: str, _: TrainConfig) -> Iterator[Tried]:
    """Solution of each layer at each strength."""
    train, valid = parts["train"], parts["valid"]
    for layer in _candidates(model):
        x, held = train.values[:, layer].astype(np.float64), valid.values[:, layer].astype(np.float64)
        start = None
        for strength in sorted(model.config.strengths):
            start = weights, bias = solve_logistic(x, train.targets, model.config.n_classes, strength, start)
            state = {
                "share": functional.one_hot(torch.tensor(layer), model.config.n_layers),
                "output.weight": torch.from_numpy(weights),
                "output.bias": torch.from_numpy(bias),
            }
            score = _score(monitor, valid, held @ weights.T + bias)
            yield {"layer": layer, "strength": strength}, score, state


def solve_logistic(
    x: Array, targets: NDArray[Any], n_classes: int, strength: float, start: tuple[Array, Array] | None = None
) -> tuple[Array, Array]:
    """Weights (classes, dimensions) and bias (classes,) of logistic regression with an L2 penalty on the weights.

    Minimises ``strength * sum of the tracks' losses + |weights|^2 / 2``, as scikit-learn does: independent sigmoids for
    targets (tracks, classes), softmax for class numbers (tracks,).

    Parameters
    ----------
    x : float64 (tracks, dimensions)
    targets : array
    n_classes : int
    strength : float > 0
        Inverse of the penalty.
    start : tuple of arrays, optional
        Where to begin; the solution does not depend on it.
    """
    from scipy.optimize import minimize

    dims = x.shape[1]
    scale = 1 / (strength * len(x))  # everything is divided by strength * tracks, so that one tolerance fits all
    vectors, wanted = torch.from_numpy(x), torch.from_numpy(targets)

    def split(flat: Any) -> tuple[Any, Any]:
        return flat[: n_classes * dims].reshape(n_classes, dims), flat[n_classes * dims :]

    @torch.enable_grad()
    def value(flat: Array) -> tuple[float, Array]:
        parameters = torch.tensor(flat, requires_grad=True)
        weights, bias = split(parameters)
        total = _loss(vectors @ weights.T + bias, wanted) + scale * weights.square().sum() / 2
        (gradient,) = torch.autograd.grad(total, parameters)
        return float(total.detach()), gradient.numpy()

    first = np.zeros(n_classes * (dims + 1)) if start is None else np.concatenate([start[0].ravel(), start[1]])
    options = {"maxiter": 2000, "maxfun": 4000, "gtol": _TOLERANCE, "ftol": 1e-14, "maxcor": 20}
    solved = minimize(value, first, jac=True, method="L-BFGS-B", options=options)
    return split(np.asarray(solved.x))


# -- gradient descent --------------------------------------------------------------------------------------------------


def _descents(model: Probe, parts: dict[str, Vectors], monitor: str, config: TrainConfig) -> Iterator[Tried]:
    """Best epoch of each layer at each rate."""
    layers: list[int | None] = [None] if model.config.layer == "mix" else list(_candidates(model))
    for layer in layers:
        for rate in model.config.rates:
            score, epoch, state = _descend(model, parts, monitor, config, layer, rate)
            yield {"layer": layer, "rate": rate, "epoch": epoch}, score, state


def _descend(
    model: Probe, parts: dict[str, Vectors], monitor: str, config: TrainConfig, layer: int | None, rate: float
) -> tuple[float, int, dict[str, torch.Tensor]]:
    """Train a fresh copy at one rate: best validation score, its epoch, and the weights of then."""
    torch.manual_seed(config.seed)
    fresh = Probe(model.config)
    if layer is not None:
        fresh.share.copy_(functional.one_hot(torch.tensor(layer), model.config.n_layers))
    tensors = {name: torch.from_numpy(part.values)[..., None] for name, part in parts.items()}
    targets = torch.from_numpy(np.asarray(parts["train"].targets))
    criterion = make_loss(_task(parts["train"].targets))
    optimizer = torch.optim.Adam(fresh.parameters(), lr=rate)
    best: tuple[float, int, dict[str, torch.Tensor]] = float("nan"), -1, {}
    for epoch in range(config.loop.epochs):
        fresh.train()
        for rows in torch.split(torch.randperm(len(targets)), config.data.batch_size):
            optimizer.zero_grad()
            torch.autograd.backward(criterion(fresh(tensors["train"][rows]), targets[rows]))
            optimizer.step()
        fresh.eval()
        with torch.no_grad():
            logits = fresh(tensors["valid"]).double().numpy()
        score = _score(monitor, parts["valid"], logits)
        if not best[2] or is_better(monitor, score, best[0]):
            best = score, epoch, copy.deepcopy(fresh.state_dict())
        elif config.loop.patience and epoch - best[1] >= config.loop.patience:
            break
    return best


# -- neighbours --------------------------------------------------------------------------------------------------------


def _neighbours(parts: dict[str, Vectors], layer: int, n_classes: int, monitor: str) -> dict[str, Any]:
    """Scores of the neighbours on all splits but ``train``; their number is chosen on ``valid``."""
    monitor = "roc_auc" if monitor == "loss" else monitor
    train = parts["train"]
    known = one_hot(train.targets, n_classes)
    sizes = [k for k in NEIGHBOURS if k <= len(train.values)]

    def score(name: str, k: int) -> float:
        found = nearest_scores(train.values[:, layer], known, parts[name].values[:, layer], k)
        return float(METRICS.load(monitor)(parts[name].targets, found).value)

    best = sizes[0]
    for k in sizes:
        if is_better(monitor, score("valid", k), score("valid", best)):
            best = k
    return {"k": best, **{name: {monitor: score(name, best)} for name in parts if name != "train"}}


def nearest_scores(known: NDArray[Any], targets: NDArray[Any], asked: NDArray[Any], k: int) -> NDArray[np.float32]:
    """Mean target (asked, classes) of the ``k`` known vectors of largest cosine, each weighted by it."""

    def unit(values: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12))

    cosine = unit(asked) @ unit(known).T
    nearest = np.argsort(-cosine, axis=1, kind="stable")[:, :k]
    weights = np.maximum(np.take_along_axis(cosine, nearest, axis=1), 1e-6)
    total = (targets[nearest] * weights[..., None]).sum(axis=1) / weights.sum(axis=1, keepdims=True)
    return np.asarray(total, dtype=np.float32)
