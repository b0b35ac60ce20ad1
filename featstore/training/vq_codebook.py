"""A codebook that follows its encoder: exponential moving averages, with dead codes replaced.

Each step the latents that a code won are averaged into it; a code that wins too few is replaced by a latent of the
batch. The threshold is relative to the batch: an absolute one that suits a large batch restarts every code of a small
one for ever.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from featstore.models.jukebox_vqvae import nearest_codes

__all__ = ["CodebookStep", "EmaCodebook", "perplexity"]


@dataclass(frozen=True, slots=True)
class CodebookStep:
    """What one batch did to the codebook.

    Attributes
    ----------
    tokens : int64 (n,)
        Nearest codes, by the table before the update.
    vectors : (n, width)
        Those codes.
    restarted : int
        Codes that were replaced.
    """

    tokens: torch.Tensor
    vectors: torch.Tensor
    restarted: int


class EmaCodebook(nn.Module):
    """Code vectors with the running sums and counts that they are made of; all of it is saved and restored.

    Parameters
    ----------
    codes, width : int
    decay : float
        Share of the past that a step keeps: 0.95 for runs of hundreds of steps, 0.99 for long ones.
    restart : float
        A code is dead when its running count falls below this fraction of an even share of the batch.
    """

    vectors: torch.Tensor
    sums: torch.Tensor
    counts: torch.Tensor

    def __init__(self, codes: int, width: int, *, decay: float, restart: float) -> None:
        super().__init__()
        self.decay, self.restart = decay, restart
        self.register_buffer("vectors", torch.zeros(codes, width))
        self.register_buffer("sums", torch.zeros(codes, width))
        self.register_buffer("counts", torch.zeros(codes))

    def start(self, latents: torch.Tensor, generator: torch.Generator) -> None:
        """Take the codes from latents (n, width) of a batch, repeated with a little noise where they are too few."""
        codes = len(self.vectors)
        self.vectors.copy_(_draw(latents, codes, generator))
        self.counts.fill_(len(latents) / codes)
        self.sums.copy_(self.vectors * self.counts[:, None])

    def step(self, latents: torch.Tensor, generator: torch.Generator) -> CodebookStep:
        """Quantise latents (n, width), then update the table with them."""
        latents = latents.detach()
        codes = len(self.vectors)
        tokens, _ = nearest_codes(latents, self.vectors)
        vectors = self.vectors[tokens]
        won = torch.zeros_like(self.counts).index_add_(0, tokens, torch.ones(len(tokens), device=tokens.device))
        total = torch.zeros_like(self.sums).index_add_(0, tokens, latents)
        self.counts.mul_(self.decay).add_(won, alpha=1 - self.decay)
        self.sums.mul_(self.decay).add_(total, alpha=1 - self.decay)
        threshold = self.restart * len(latents) / codes
        dead = self.counts < threshold
        restarted = int(dead.sum())
        if restarted:
            fresh = _draw(latents, restarted, generator)
            self.counts[dead] = 2 * threshold
            self.sums[dead] = fresh * (2 * threshold)
        self.vectors.copy_(self.sums / self.counts[:, None])
        return CodebookStep(tokens, vectors, restarted)


def _draw(latents: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    """Random rows; each once where there are enough."""
    n, width = latents.shape
    order = torch.randperm(n, generator=generator)
    if n >= count:
        return latents[order[:count].to(latents.device)]
    repeats = order.repeat(-(-count // n))[:count].to(latents.device)
    noise = torch.randn((count, width), generator=generator).to(latents.device)
    spread = 0.01 / float(width) ** 0.5
    repeated: torch.Tensor = latents[repeats] + noise * spread
    return repeated


def perplexity(counts: torch.Tensor) -> float:
    """Exponential of the entropy of code use: the number of codes that are used evenly.

    Examples
    --------
    >>> round(perplexity(torch.tensor([4, 4, 0, 0])), 6)
    2.0
    """
    share = counts[counts > 0].double() / counts.sum().clamp_min(1)
    return float(torch.exp(-(share * share.log()).sum()))
