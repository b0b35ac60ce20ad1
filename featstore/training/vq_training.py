"""Training of a tokenizer of one's own: one level of a VQ-VAE on random excerpts of music, in minutes on a CPU."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import torch

from featstore.arrays import FloatArray
from featstore.errors import CheckpointError, ConfigError, check_known
from featstore.log import progress_bar
from featstore.models.checkpoint_file import load_checkpoint, load_module, save_checkpoint
from featstore.models.jukebox_vqvae import DOWNS, Decoder, JukeboxLevel, LevelConfig
from featstore.training.checkpoints import optimizer_state, restore_optimizer
from featstore.training.settings import Range, Section, from_mapping, require
from featstore.training.vq_codebook import EmaCodebook, perplexity
from featstore.training.vq_losses import DataScale, reconstruction_loss, si_sdr_db, spectral_convergence

__all__ = ["PRESETS", "TokenizerConfig", "TokenizerTraining", "measure_tokenizer"]

logger = logging.getLogger(__name__)

Draw = Callable[[int], FloatArray]  # step to a batch of excerpts (batch, n)
_SAVE_EVERY_S = 60.0
_SCALE_BATCHES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizerConfig(Section):
    """Settings of a training.

    Attributes
    ----------
    level, width, depth, embedding, codes, sample_rate : int
        Of the model: see :class:`LevelConfig`.
    batch, samples : int
        Excerpts a step, and samples of each.
    steps, warm_up, plain_steps : int
        Steps in all; those in which the rate rises; first ones without a codebook, as a plain autoencoder.
    rate, clip : float
        Learning rate of Adam, and the norm that gradients are cut to.
    decay, restart, commitment : float
        Of the codebook, and the weight of the latents' distance to their codes.
    seed : int
    """

    section: ClassVar[str] = "tokenizer training"

    level: int = 2
    width: int = 16
    depth: int = 4
    embedding: int = 64
    codes: Annotated[int, Range.POSITIVE] = 512
    sample_rate: int = 44100
    batch: Annotated[int, Range.POSITIVE] = 8
    samples: Annotated[int, Range.POSITIVE] = 16384
    steps: Annotated[int, Range.POSITIVE] = 600
    warm_up: int = 50
    plain_steps: int = 60
    rate: float = 3e-4
    clip: float = 1.0
    decay: Annotated[float, Range.PROPER_SHARE] = 0.95
    restart: Annotated[float, Range.BELOW_ONE] = 0.1
    commitment: float = 0.02
    seed: int = 0

    def check(self) -> None:
        """Refuse settings that contradict each other."""
        levels = "0 (hop 8), 1 (hop 32), 2 (hop 128)"
        require(self.level in range(len(DOWNS)), f"level={self.level} is unknown", self.section, levels)
        enough = self.samples >= self.level_config.hop
        require(enough, f"samples={self.samples} hold no token", self.section, "Raise samples")

    @property
    def level_config(self) -> LevelConfig:
        """Sizes of the model."""
        names = ("level", "width", "depth", "embedding", "codes", "sample_rate")
        return LevelConfig(downs=DOWNS[: self.level + 1], **{name: getattr(self, name) for name in names})

    @classmethod
    def preset(cls, name: str, **changes: Any) -> TokenizerConfig:
        """Return a preset with some settings changed; None changes nothing."""
        check_known(name, PRESETS, f"unknown preset {name!r}", "tokenizer training")
        given = {key: value for key, value in changes.items() if value is not None}
        return from_mapping(cls, PRESETS[name] | given)


PRESETS: dict[str, dict[str, Any]] = {
    # for tests and a first look: under a minute
    "tiny": {
        "width": 8, "depth": 2, "codes": 128, "batch": 4, "samples": 8192, "steps": 300, "rate": 1e-3,
    },
    # what a CPU of two cores trains in minutes: the demo set's tokens come from it
    "small": {},
    # the published sizes and settings; many days on many GPUs
    "jukebox": {
        "width": 32, "codes": 2048, "batch": 256, "samples": 393216, "steps": 384618, "warm_up": 100,
        "plain_steps": 0, "decay": 0.99, "restart": 1 / 384,
    },
}  # fmt: skip


class TokenizerTraining:
    """A training that can stop and go on.

    Parameters
    ----------
    config : TokenizerConfig
    draw : callable
        Step number to a batch of excerpts (batch, samples): the same number gives the same batch.
    state : path, optional
        Where to save the state every minute and on interruption; a state that is there is gone on with.
    device : torch.device
    """

    def __init__(
        self, config: TokenizerConfig, draw: Draw, *, state: Path | None = None, device: torch.device | str = "cpu"
    ) -> None:
        self.config, self._draw, self._state, self.device = config, draw, state, torch.device(device)
        torch.manual_seed(config.seed)
        self.model = JukeboxLevel(config.level_config, with_decoder=False)
        self._decoder = self.model.decoder = Decoder(config.level_config)
        self.model.to(self.device)
        self.codebook = EmaCodebook(config.codes, config.embedding, decay=config.decay, restart=config.restart).to(
            self.device
        )
        self._optimizer = torch.optim.Adam(self.model.parameters(), lr=config.rate)
        self.step = 0
        self.seconds = 0.0  # of work, before the run that is under way
        self._began: float | None = None
        self.restarted: list[int] = []
        self.scale = DataScale.of(self._batch(-1 - number) for number in range(_SCALE_BATCHES))
        if state is not None and state.exists():
            self._restore(state)

    def _batch(self, step: int) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(self._draw(step), np.float32)).to(self.device)

    def run(self) -> JukeboxLevel:
        """Train up to the last step; the model with its codebook."""
        config = self.config
        saved = self._began = time.monotonic()
        torch.set_flush_denormal(True)
        self.model.train()
        try:
            with progress_bar(total=config.steps, initial=self.step, desc="tokenizer", unit="step") as bar:
                while self.step < config.steps:
                    shown = self._one_step()
                    self.step += 1
                    bar.update(1)
                    bar.set_postfix_str(shown, refresh=False)
                    if time.monotonic() - saved > _SAVE_EVERY_S:
                        self.save()
                        saved = time.monotonic()
        except KeyboardInterrupt:
            self.save()
            raise
        finally:
            torch.set_flush_denormal(False)
            self.seconds, self._began = self._spent(), None
        self.model.codebook.copy_(self.codebook.vectors)
        return self.model.eval().requires_grad_(False)

    def _one_step(self) -> str:
        config, step = self.config, self.step
        signal = self._batch(step)
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
        latents = self.model.latents(signal)
        commitment, usage = torch.zeros(()), "no codebook yet"
        if step >= config.plain_steps:
            rows = latents.transpose(1, 2).reshape(-1, config.embedding)
            if step == config.plain_steps:
                self.codebook.start(rows.detach(), generator)
            found = self.codebook.step(rows, generator)
            self.restarted.append(found.restarted)
            commitment = (rows - found.vectors).square().mean()
            shape = (latents.shape[0], latents.shape[2], config.embedding)
            vectors = found.vectors.reshape(shape).transpose(1, 2)
            latents = latents + (vectors - latents).detach()  # gradients pass straight through
            usage = f"{int((torch.bincount(found.tokens) > 0).sum())} codes used, {found.restarted} replaced"
        length = signal.shape[1] // config.level_config.hop * config.level_config.hop
        losses = reconstruction_loss(self._decoder(latents)[:, 0], signal[:, :length], self.scale)
        total = losses["total"] + config.commitment * commitment
        if not bool(torch.isfinite(total)):
            raise ConfigError(
                f"the loss is {float(total.detach())} at step {step}", "tokenizer training", "Lower the rate"
            )
        self._optimizer.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.clip)
        for group in self._optimizer.param_groups:
            group["lr"] = config.rate * min(1.0, (step + 1) / max(1, config.warm_up))
        self._optimizer.step()
        return f"loss {float(losses['total'].detach()):.3f}, {usage}"

    def _spent(self) -> float:
        return self.seconds + (0.0 if self._began is None else time.monotonic() - self._began)

    # -- stopping and going on ---------------------------------------------------------------------------------------

    def save(self) -> None:
        """Write the state, running sums of the codebook included."""
        if self._state is None:
            return
        tensors, settings = optimizer_state(self._optimizer, "optimizer.")
        tensors |= self.model.state_dict(prefix="model.") | self.codebook.state_dict(prefix="codebook.")
        state = {
            "config": dataclasses.asdict(self.config),
            "step": self.step,
            "seconds": self._spent(),
            "restarted": self.restarted,
            "optimizer": settings,
        }
        save_checkpoint(self._state, tensors, state)

    def _restore(self, path: Path) -> None:
        tensors, state = load_checkpoint(path)
        mine = dataclasses.asdict(self.config)
        other = {name: value for name, value in state["config"].items() if name != "steps" and mine.get(name) != value}
        if other:
            name, value = next(iter(other.items()))
            raise CheckpointError(
                f"a training with {name}={value} was stopped here, not {name}={mine.get(name)}",
                str(path),
                "Go on with its settings, or delete the file to start again",
            )
        for prefix, module in (("model.", self.model), ("codebook.", self.codebook)):
            load_module(module, tensors, prefix, str(path))
        restore_optimizer(self._optimizer, tensors, state["optimizer"], "optimizer.")
        self.step, self.seconds, self.restarted = state["step"], state["seconds"], list(state["restarted"])
        logger.info("training goes on at step %d", self.step)


def measure_tokenizer(
    model: JukeboxLevel, excerpts: Sequence[FloatArray], *, decoded: int = 8, decoded_samples: int = 1 << 17
) -> dict[str, Any]:
    """Measure codebook use on whole excerpts (n,), and reconstruction on the first samples of a few of them.

    A full decode costs more than the steps of a small training, hence the limits ``decoded`` and ``decoded_samples``.

    Returns
    -------
    dict
        What the tokenizer keeps of the excerpts: ``tokens``, their number; ``used``, the share of the codes that occur;
        ``perplexity``, codes that would give the same entropy if used evenly; ``quantisation_error``,
        ‖x − e‖² / ‖x − mean‖² of latents x and their codes e; and ``spectral_convergence``, ``l2_over_variance`` and
        ``si_sdr_db`` of the decoded excerpts.
    """
    device, config = model.codebook.device, model.config
    counts = torch.zeros(config.codes)
    error = spread = 0.0
    quality: list[tuple[float, float, float]] = []
    with torch.inference_mode():
        for number, excerpt in enumerate(excerpts):
            length = len(excerpt) // config.hop * config.hop
            if not length:
                continue
            signal = torch.from_numpy(np.ascontiguousarray(excerpt[:length], np.float32)).to(device)[None]
            latents = model.latents(signal)
            tokens = model.quantise(latents)
            counts += torch.bincount(tokens[0].cpu(), minlength=config.codes)
            rows = latents[0].T.double()
            error += float((rows - model.codebook[tokens[0]].double()).square().sum())
            spread += float((rows - rows.mean(0)).square().sum())
            if number < decoded and float(signal.abs().max()) > 0:
                part = min(length, decoded_samples // config.hop * config.hop)
                wave = model.decode(tokens[:, : part // config.hop])
                wanted = signal[:, :part]
                l2 = float((wave - wanted).square().mean() / wanted.square().mean())
                quality.append((spectral_convergence(wave, wanted), l2, si_sdr_db(wave, wanted)))
    convergence, l2, sdr = np.mean(quality, axis=0).tolist() if quality else (np.nan,) * 3
    return {
        "tokens": int(counts.sum()),
        "used": float((counts > 0).float().mean()),
        "perplexity": perplexity(counts),
        "quantisation_error": error / max(spread, 1e-12),
        "spectral_convergence": convergence,
        "l2_over_variance": l2,
        "si_sdr_db": sdr,
    }
