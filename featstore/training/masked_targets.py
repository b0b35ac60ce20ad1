"""Ids that stand for frames: what masked prediction by classes has to find at the hidden positions.

The tokens of a codec are ids already. For spectra there are four makers (Kamuni et al. 2024, next steps; methods of
HuBERT and BEST-RQ): ``kmeans`` and ``bins`` are fitted to training frames, ``random_projection`` is drawn from a seed,
``tokens`` takes the ids of a codec for the same stretch of audio. Whatever is fitted is a buffer, so that it travels
with the weights.
"""

from __future__ import annotations

import abc
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from featstore.errors import ConfigError
from featstore.loaders.stored_feature import StoredFeature
from featstore.specs import FeatureSpec

__all__ = [
    "Bins",
    "KMeans",
    "OwnTokens",
    "RandomProjection",
    "StoredTokens",
    "TargetIds",
    "bigram_entropy",
    "count_pairs",
    "id_entropy",
]


class TargetIds(nn.Module, abc.ABC):
    """Turns frames into ids.

    Parameters
    ----------
    n_ids : int
        Ids of one frame.
    n_codes : int
        Ids run from 0 to ``n_codes - 1``.
    identity : str
        What decides the ids, besides the frames: a method with its settings and revision.

    Attributes
    ----------
    needs_fit : bool
        Whether ``fit`` must come first.
    """

    needs_fit: ClassVar[bool] = False

    def __init__(self, n_ids: int, n_codes: int, identity: str) -> None:
        super().__init__()
        self.n_ids, self.n_codes, self.identity = n_ids, n_codes, identity

    @abc.abstractmethod
    def forward(self, frames: torch.Tensor, track_ids: Sequence[str], starts: Sequence[int]) -> torch.Tensor:
        """Ids int64 ``(batch, n_ids, frames)`` of normalised frames ``(batch, values, frames)``.

        ``track_ids`` and ``starts`` say which crops these are, in frames; -1 stands where there is no id.
        """

    def fit(self, frames: NDArray[np.float32], seed: int) -> None:  # most methods need nothing
        """Learn from a sample of normalised training frames ``(n, values)``, where the method needs it."""


class OwnTokens(TargetIds):
    """The input itself, for models of tokens."""

    def __init__(self, n_codebooks: int, n_codes: int) -> None:
        super().__init__(n_codebooks, n_codes, f"own.r1(codes={n_codes})")

    def forward(self, frames: torch.Tensor, track_ids: Sequence[str], starts: Sequence[int]) -> torch.Tensor:
        """Return the input."""
        return frames.long()


class KMeans(TargetIds):
    """Nearest of ``n_codes`` centres of training frames (HuBERT's first targets)."""

    needs_fit = True
    centres: torch.Tensor

    def __init__(self, n_values: int, n_codes: int = 512) -> None:
        super().__init__(1, n_codes, f"kmeans.r1(codes={n_codes})")
        self.register_buffer("centres", torch.zeros(n_codes, n_values))

    def fit(self, frames: NDArray[np.float32], seed: int) -> None:
        """Find the centres by k-means++."""
        from scipy.cluster.vq import kmeans2

        if len(frames) < self.n_codes:
            found = f"{len(frames)} training frames for {self.n_codes} centres"
            raise ConfigError(found, "objective.codes", "Lower it, or take more tracks")
        centres, _ = kmeans2(frames.astype(np.float64), self.n_codes, iter=20, minit="++", missing="warn", seed=seed)
        self.centres.copy_(torch.from_numpy(centres))

    def forward(self, frames: torch.Tensor, track_ids: Sequence[str], starts: Sequence[int]) -> torch.Tensor:
        """Return the number of the nearest centre."""
        rows = frames.transpose(1, 2)
        distance = self.centres.square().sum(dim=1) - 2 * rows @ self.centres.T  # but for what all centres share
        return distance.argmin(dim=-1)[:, None]


class RandomProjection(TargetIds):
    """Nearest of random directions to a random projection of the frame (BEST-RQ): nothing is learnt."""

    projection: torch.Tensor
    codebook: torch.Tensor

    def __init__(self, n_values: int, n_codes: int = 8192, width: int = 16, seed: int = 0) -> None:
        super().__init__(1, n_codes, f"random_projection.r1(codes={n_codes},width={width},seed={seed})")
        rng = torch.Generator().manual_seed(seed)
        limit = (6 / (n_values + width)) ** 0.5
        self.register_buffer("projection", (torch.rand(n_values, width, generator=rng) * 2 - 1) * limit)
        self.register_buffer("codebook", functional.normalize(torch.randn(n_codes, width, generator=rng), dim=1))

    def forward(self, frames: torch.Tensor, track_ids: Sequence[str], starts: Sequence[int]) -> torch.Tensor:
        """Return the number of the nearest direction."""
        projected = frames.transpose(1, 2) @ self.projection
        return (projected @ self.codebook.T).argmax(dim=-1)[:, None]  # the frame's length does not matter


class Bins(TargetIds):
    """Level of each band, by quantiles of training frames: ``n_codes`` equally frequent classes a band."""

    needs_fit = True
    edges: torch.Tensor

    def __init__(self, n_values: int, n_codes: int = 16) -> None:
        super().__init__(n_values, n_codes, f"bins.r1(codes={n_codes})")
        self.register_buffer("edges", torch.zeros(n_values, n_codes - 1))

    def fit(self, frames: NDArray[np.float32], seed: int) -> None:
        """Take the quantiles of each band."""
        quantiles = np.quantile(frames, np.arange(1, self.n_codes) / self.n_codes, axis=0)
        self.edges.copy_(torch.from_numpy(quantiles.T))

    def forward(self, frames: torch.Tensor, track_ids: Sequence[str], starts: Sequence[int]) -> torch.Tensor:
        """Return the level of each band."""
        bands = frames.transpose(0, 1).flatten(1).contiguous()  # (values, batch x frames)
        found = torch.searchsorted(self.edges, bands, right=True)
        return found.reshape(-1, frames.shape[0], frames.shape[2]).transpose(0, 1)


class StoredTokens(TargetIds):
    """Tokens of a codec for the same stretch of audio as each frame, from another array of the store.

    Parameters
    ----------
    reader : StoredFeature
        Of a ``vq_tokens`` feature.
    per_frame : int
        Tokens of one codebook in the time of one frame.
    """

    def __init__(self, reader: StoredFeature, per_frame: int) -> None:
        identity = f"tokens.r1({per_frame} of {reader.name})"
        super().__init__(reader.shape_of_item[0] * per_frame, reader.spec.vocabulary or 0, identity)
        self.reader, self.per_frame = reader, per_frame
        self._tracks: dict[str, NDArray[np.uint16]] = {}

    @classmethod
    def beside(cls, reader: StoredFeature, spec: FeatureSpec) -> StoredTokens:
        """Tokens for the frames of another feature.

        Raises
        ------
        ConfigError
            A frame does not last a whole number of tokens, or the rates differ.
        """
        per_frame, rest = divmod(spec.frame_step, reader.spec.frame_step)
        if rest or not per_frame or spec.sample_rate != reader.spec.sample_rate:
            found = f"a frame of {spec.frame_step} samples is no whole number of tokens of {reader.spec.frame_step}"
            raise ConfigError(found, reader.name, "Choose a feature with framing=token and such a hop")
        return cls(reader, per_frame)

    def forward(self, frames: torch.Tensor, track_ids: Sequence[str], starts: Sequence[int]) -> torch.Tensor:
        """Return the tokens that belong to each frame."""
        n_frames = frames.shape[-1]
        width = n_frames * self.per_frame
        found = np.full((len(track_ids), self.n_ids // self.per_frame, width), -1, dtype=np.int64)
        for row, track, start in zip(found, track_ids, starts, strict=True):
            if track not in self._tracks:  # a clip's tokens are some 20 kB: once read, they stay in memory
                self._tracks[track] = np.asarray(self.reader[track]).astype(np.uint16)
            part = self._tracks[track][:, start * self.per_frame :][:, :width]
            row[:, : part.shape[1]] = part
        split = found.reshape(*found.shape[:2], n_frames, self.per_frame)
        return torch.from_numpy(split).transpose(2, 3).flatten(1, 2).to(frames.device)


def id_entropy(counts: torch.Tensor) -> torch.Tensor:
    """Entropy of each row of counts ``(…, n_codes)``, nats."""
    share = counts.double() / counts.sum(dim=-1, keepdim=True).clamp(min=1)
    entropy: torch.Tensor = torch.special.entr(share).sum(dim=-1)
    return entropy


def count_pairs(ids: torch.Tensor, n_codes: int, into: Sequence[Counter[int]]) -> None:
    """Count each pair of neighbours of ids ``(batch, n_ids, frames)``, by place in the frame; -1 is none.

    Examples
    --------
    >>> counted = [Counter()]
    >>> count_pairs(torch.tensor([[[0, 1, 1, -1]]]), 2, counted)
    >>> counted  # 0 then 1, and 1 then 1
    [Counter({1: 1, 3: 1})]
    """
    first, second = ids[..., :-1], ids[..., 1:]
    known = (first >= 0) & (second >= 0)
    for place, counts in enumerate(into):
        pairs = (first[:, place] * n_codes + second[:, place])[known[:, place]]
        keys, times = np.unique(pairs.numpy(), return_counts=True)
        counts.update(dict(zip(keys.tolist(), times.tolist(), strict=True)))


def bigram_entropy(pairs: Sequence[Mapping[int, int]], n_codes: int) -> float:
    """Entropy of an id given the one before it, nats, mean over the places of a frame.

    Examples
    --------
    >>> round(bigram_entropy([{0: 1, 1: 1, 2: 2}], 2), 4)  # after 0 either, after 1 always 0
    0.3466
    """
    found = []
    for counts in pairs:
        keys = torch.tensor(list(counts), dtype=torch.int64)
        times = torch.tensor(list(counts.values()), dtype=torch.float64)
        before = torch.zeros(n_codes, dtype=torch.float64).index_add_(0, keys // n_codes, times)
        found.append(float((times * (before[keys // n_codes] / times).log()).sum() / times.sum().clamp(min=1)))
    return float(np.mean(found))
