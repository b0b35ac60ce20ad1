"""Weights of a probe: layer, scale, L2 strength and learning rate are chosen on the validation split.

A linear probe of one layer is logistic regression with an L2 penalty on the weights, solved to convergence along a path
of strengths: two runs give the same numbers, whatever their seed. A hidden layer, or a mixture of layers, is trained
with Adam at each of several learning rates, as the ranking of encoders is known to depend on the rate.

Beside it, k nearest neighbours by cosine on the chosen layer: what the vectors give without training.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from featstore.metrics import METRICS, is_better, one_hot
from featstore.models.probe import Probe

__all__ = ["FitSettings", "Vectors", "fit_probe", "nearest_scores", "solve_logistic"]

logger = logging.getLogger(__name__)

NEIGHBOURS = (1, 3, 5, 10, 20)
_TOLERANCE = 1e-7

Array = NDArray[np.float64]


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


@dataclass(frozen=True, slots=True, kw_only=True)
class FitSettings:
    """What a fit takes from the settings of a run.

    Attributes
    ----------
    monitor : str
        The score of the validation split that chooses.
    epochs, patience, batch_size : int
        Of gradient descent; a patience of 0 never stops early.
    seed : int
    """

    monitor: str
    epochs: int = 50
    patience: int = 10
    batch_size: int = 32
    seed: int = 0


def fit_probe(model: Probe, parts: dict[str, Vectors], settings: FitSettings) -> dict[str, Any]:
    """Set the weights of a probe.

    Parameters
    ----------
    model : Probe
        Changed in place.
    parts : dict of str to Vectors
        ``train`` and ``valid``, and further splits that the neighbours are scored on.
    settings : FitSettings

    Returns
    -------
    dict
        What was chosen, with the validation score of everything that was tried, and the neighbours' scores.
    """
    fits = []
    for scale in _scales(model):
        standard = _standardise(model, parts, scale)
        fit = _fit_convex if model.config.is_convex else _fit_descent
        found = fit(model, standard, settings)
        for one in found["tried"]:
            one["standardise"] = scale
        fits.append((found, scale, standard, copy.deepcopy(model.state_dict())))
    best = fits[0]
    for other in fits[1:]:
        if is_better(settings.monitor, other[0][f"valid_{settings.monitor}"], best[0][f"valid_{settings.monitor}"]):
            best = other
    found, scale, standard, state = best
    model.load_state_dict(state)
    found |= {"standardise": scale, "tried": [one for fit in fits for one in fit[0]["tried"]]}
    if found.get("strength") in (min(model.config.strengths), max(model.config.strengths)):
        logger.warning(
            "the L2 strength %g is the first or last of model.strengths: try further ones", found["strength"]
        )
    layer = int(np.argmax(_shares(model)))
    found["neighbours"] = _neighbours(standard, layer, model.config.n_classes, settings.monitor)
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
        return _loss(logits, part.targets)[0] / len(logits)
    return float(METRICS.load(monitor)(part.targets, _probabilities(logits, part.targets)).value)


def _probabilities(logits: Array, targets: NDArray[Any]) -> Array:
    if targets.ndim == 1:
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -500, 500))))


# -- convex ------------------------------------------------------------------------------------------------------------


def _fit_convex(model: Probe, parts: dict[str, Vectors], settings: FitSettings) -> dict[str, Any]:
    monitor = settings.monitor
    train, valid = parts["train"], parts["valid"]
    tried: list[dict[str, Any]] = []
    best: tuple[float, int, float, Array, Array] | None = None
    for layer in _candidates(model):
        x, held = train.values[:, layer].astype(np.float64), valid.values[:, layer].astype(np.float64)
        start = None
        for strength in sorted(model.config.strengths):
            start = weights, bias = solve_logistic(x, train.targets, model.config.n_classes, strength, start)
            score = _score(monitor, valid, held @ weights.T + bias)
            tried.append({"layer": layer, "strength": strength, monitor: score})
            if best is None or is_better(monitor, score, best[0]):
                best = score, layer, strength, weights, bias
    assert best is not None
    score, layer, strength, weights, bias = best
    with torch.no_grad():
        model.share.copy_(functional.one_hot(torch.tensor(layer), model.config.n_layers))
        model.output.weight.copy_(torch.from_numpy(weights))
        model.output.bias.copy_(torch.from_numpy(bias))
    return {
        "solver": "logistic regression, L-BFGS",
        "deterministic": True,
        "layer": layer,
        "strength": strength,
        f"valid_{monitor}": score,
        "tried": tried,
    }


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

    def split(flat: Array) -> tuple[Array, Array]:
        return flat[: n_classes * dims].reshape(n_classes, dims), flat[n_classes * dims :]

    def value(flat: Array) -> tuple[float, Array]:
        weights, bias = split(flat)
        total, slope = _loss(x @ weights.T + bias, targets)
        slope = slope / len(x)
        gradient = np.concatenate([(slope.T @ x + scale * weights).ravel(), slope.sum(axis=0)])
        return total / len(x) + scale * float((weights**2).sum()) / 2, gradient

    first = np.zeros(n_classes * (dims + 1)) if start is None else np.concatenate([start[0].ravel(), start[1]])
    options = {"maxiter": 2000, "maxfun": 4000, "gtol": _TOLERANCE, "ftol": 1e-14, "maxcor": 20}
    solved = minimize(value, first, jac=True, method="L-BFGS-B", options=options)
    return split(np.asarray(solved.x))


def _loss(logits: Array, targets: NDArray[Any]) -> tuple[float, Array]:
    """Sum of the tracks' losses, and its slope (tracks, classes) in the logits."""
    if targets.ndim == 1:
        shifted = logits - logits.max(axis=1, keepdims=True)
        rest = np.log(np.exp(shifted).sum(axis=1))
        rows = np.arange(len(logits))
        slope = np.exp(shifted - rest[:, None])
        slope[rows, targets] -= 1
        return float((rest - shifted[rows, targets]).sum()), slope
    total = float((np.logaddexp(0, logits) - logits * targets).sum())
    return total, _probabilities(logits, targets) - targets


# -- gradient descent --------------------------------------------------------------------------------------------------


def _fit_descent(model: Probe, parts: dict[str, Vectors], settings: FitSettings) -> dict[str, Any]:
    layers: list[int | None] = [None] if model.config.layer == "mix" else list(_candidates(model))
    tried: list[dict[str, Any]] = []
    best: tuple[float, dict[str, Any], dict[str, torch.Tensor]] | None = None
    for layer in layers:
        for rate in model.config.rates:
            score, epoch, state = _descend(model, parts, settings, layer, rate)
            tried.append({"layer": layer, "rate": rate, "epoch": epoch, settings.monitor: score})
            if best is None or is_better(settings.monitor, score, best[0]):
                best = score, tried[-1], state
    assert best is not None
    score, chosen, state = best
    model.load_state_dict(state)
    found = {"solver": "Adam", "deterministic": False, **{k: chosen[k] for k in ("layer", "rate", "epoch")}}
    if model.mixture is not None:
        found["mixture"] = _shares(model).tolist()
    return found | {f"valid_{settings.monitor}": score, "tried": tried}


def _descend(
    model: Probe, parts: dict[str, Vectors], settings: FitSettings, layer: int | None, rate: float
) -> tuple[float, int, dict[str, torch.Tensor]]:
    """Train a fresh copy at one rate: best validation score, its epoch, and the weights of then."""
    torch.manual_seed(settings.seed)
    config = model.config
    fresh = Probe(config)
    if layer is not None:
        fresh.share.copy_(functional.one_hot(torch.tensor(layer), config.n_layers))
    tensors = {name: torch.from_numpy(part.values)[..., None] for name, part in parts.items()}
    targets = torch.from_numpy(np.asarray(parts["train"].targets))
    criterion: Callable[..., torch.Tensor]
    criterion = functional.cross_entropy if targets.ndim == 1 else functional.binary_cross_entropy_with_logits
    optimizer = torch.optim.Adam(fresh.parameters(), lr=rate)
    best: tuple[float, int, dict[str, torch.Tensor]] = float("nan"), -1, {}
    for epoch in range(settings.epochs):
        fresh.train()
        for rows in torch.split(torch.randperm(len(targets)), settings.batch_size):
            optimizer.zero_grad()
            torch.autograd.backward(criterion(fresh(tensors["train"][rows]), targets[rows]))
            optimizer.step()
        fresh.eval()
        with torch.no_grad():
            logits = fresh(tensors["valid"]).double().numpy()
        score = _score(settings.monitor, parts["valid"], logits)
        if not best[2] or is_better(settings.monitor, score, best[0]):
            best = score, epoch, copy.deepcopy(fresh.state_dict())
        elif settings.patience and epoch - best[1] >= settings.patience:
            break
    state = best[2] | {"mean": model.mean.clone(), "std": model.std.clone()}  # the copy had standardised vectors
    return best[0], best[1], state


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
