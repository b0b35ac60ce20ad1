"""Tokenizers of one's own: the codebook's averages and restarts, the losses, a training that stops and goes on."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from featstore.errors import CheckpointError, ConfigError
from featstore.training.vq_codebook import EmaCodebook, perplexity
from featstore.training.vq_losses import DataScale, reconstruction_loss, si_sdr_db, spectral_convergence
from featstore.training.vq_training import TokenizerConfig, TokenizerTraining, measure_tokenizer


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


# -- codebook ------------------------------------------------------------


def test_a_step_quantises_by_the_table_before_it_and_moves_codes_to_their_latents():
    book = EmaCodebook(2, 1, decay=0.5, restart=0.0)
    book.start(torch.tensor([[0.0], [10.0]]), generator())
    order = book.vectors[:, 0].argsort()
    before = book.vectors.clone()
    found = book.step(torch.tensor([[1.0], [2.0], [9.0], [9.0]]), generator())
    assert torch.equal(found.vectors, before[found.tokens])
    # counts start at one each: 0.5 * 1 + 0.5 * 2 = 1.5; sums 0.5 * 0 + 0.5 * 3 and 0.5 * 10 + 0.5 * 18
    assert torch.allclose(book.counts, torch.tensor([1.5, 1.5]))
    assert torch.allclose(book.vectors[order, 0], torch.tensor([1.5 / 1.5, 14 / 1.5]))
    assert found.restarted == 0


def test_dead_codes_become_latents_of_the_batch_relative_to_its_size():
    for size in (40, 4000):  # an even share is the same fraction of any batch
        book = EmaCodebook(4, 2, decay=0.5, restart=0.1)
        book.start(torch.randn(size, 2, generator=generator()), generator())
        book.vectors[2:] = 1e3  # nobody's nearest
        book.sums[2:] = 1e3 * book.counts[2:, None]
        latents = torch.randn(size, 2, generator=generator())
        restarts = [book.step(latents, generator()).restarted for _ in range(6)]
        assert restarts[0] == restarts[1] == 0  # the average must fall first
        assert 2 in restarts
        revived = book.vectors[2:]
        assert float(revived.abs().max()) < 10
        threshold = 0.1 * size / 4
        assert float(book.counts.min()) >= threshold
    assert math.isclose(perplexity(torch.tensor([1.0, 1.0, 1.0, 1.0, 0.0])), 4.0)


def test_few_latents_start_a_codebook_with_noise():
    book = EmaCodebook(10, 4, decay=0.9, restart=0.1)
    latents = torch.eye(4)
    book.start(latents, generator())
    assert len(book.vectors.unique(dim=0)) == 10
    assert float((book.vectors[:, None] - latents[None]).norm(dim=-1).amin(1).max()) < 0.1


# -- losses ------------------------------------------------------------


def test_losses_are_zero_for_the_same_signal_and_one_for_silence():
    signal = torch.from_numpy(np.random.default_rng(0).normal(0, 0.1, (3, 8000)).astype(np.float32))
    scale = DataScale.of([signal])
    assert math.isclose(scale.variance, float(signal.square().mean()), rel_tol=1e-5)
    same = reconstruction_loss(signal, signal, scale)
    assert {name: float(value) for name, value in same.items()} == dict.fromkeys(same, 0.0)
    silent = reconstruction_loss(torch.zeros_like(signal), signal, scale)
    assert math.isclose(float(silent["l2"]), 1.0, rel_tol=1e-5)
    largest = signal.square().topk(2048, dim=1).values.mean() / scale.variance
    assert math.isclose(float(silent["peaks"]), float(largest), rel_tol=1e-5)
    assert math.isclose(
        float(silent["total"]), float(silent["l2"] + 0.02 * silent["peaks"] + silent["spectral"]), rel_tol=1e-6
    )
    assert spectral_convergence(torch.zeros_like(signal), signal) > 0.99
    assert spectral_convergence(signal, signal) == 0


def test_spectral_loss_against_plain_numpy():
    rng = np.random.default_rng(1)
    a, b = (rng.normal(0, 0.3, 4000).astype(np.float32) for _ in range(2))
    total = 0.0
    for n_fft, hop, length in ((2048, 240, 1200), (1024, 120, 600), (512, 50, 240)):
        window = np.zeros(n_fft)
        left = (n_fft - length) // 2
        window[left : left + length] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
        spectra = []
        for x in (a, b):
            padded = np.pad(x, n_fft // 2)
            frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop]
            spectra.append(np.abs(np.fft.rfft(frames * window)))
        total += np.linalg.norm(spectra[0] - spectra[1]) / 3
    found = reconstruction_loss(torch.from_numpy(a)[None], torch.from_numpy(b)[None], DataScale(1.0, 1.0))
    assert math.isclose(float(found["spectral"]), total, rel_tol=1e-4)


def test_si_sdr_ignores_gain_and_knows_a_ratio():
    rng = np.random.default_rng(2)
    wanted = torch.from_numpy(rng.normal(size=(2, 50_000)))
    noise = torch.from_numpy(rng.normal(size=(2, 50_000)))
    assert si_sdr_db(3 * wanted, wanted) > 100
    assert abs(si_sdr_db(wanted + 0.1 * noise, wanted) - 20) < 0.1
    assert math.isnan(si_sdr_db(wanted, torch.zeros_like(wanted)))


# -- training ------------------------------------------------------------

SETTINGS = {"codes": 16, "width": 4, "depth": 1, "embedding": 4, "batch": 2, "samples": 2048, "rate": 3e-3}


def music(step: int) -> np.ndarray:
    rng = np.random.default_rng([7, step + 100])
    time = np.arange(2048) / 44100
    tones = [rng.uniform(0.1, 0.6) * np.sin(2 * np.pi * rng.uniform(100, 3000) * time) for _ in range(2)]
    return np.stack(tones).astype(np.float32)


def config(**changes) -> TokenizerConfig:
    return TokenizerConfig.preset("tiny", **SETTINGS | {"steps": 14, "plain_steps": 4, "warm_up": 4} | changes)


@pytest.mark.slow
def test_stopped_and_gone_on_is_never_stopped(tmp_path, monkeypatch):
    whole = TokenizerTraining(config(), music).run()
    state = tmp_path / "t.state"
    first = TokenizerTraining(config(), music, state=state)
    real, calls = first._one_step, []

    def one_step():
        if len(calls) == 7:
            raise KeyboardInterrupt
        calls.append(1)
        return real()

    monkeypatch.setattr(first, "_one_step", one_step)
    with pytest.raises(KeyboardInterrupt):
        first.run()
    second = TokenizerTraining(config(), music, state=state)
    assert second.step == 7
    assert torch.equal(second.codebook.sums, first.codebook.sums) and torch.equal(
        second.codebook.counts, first.codebook.counts
    )
    again = second.run()
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
    assert len(second.restarted) == 10
    with pytest.raises(CheckpointError, match=r"a training with codes=16 was stopped here, not codes=32"):
        TokenizerTraining(config(codes=32), music, state=state)


def test_settings_are_checked():
    with pytest.raises(ConfigError, match=r"unknown preset 'smal'.*small"):
        TokenizerConfig.preset("smal")
    with pytest.raises(ConfigError, match=r"unknown setting 'step'.*steps"):
        TokenizerConfig.preset("tiny", step=3)
    with pytest.raises(ConfigError, match=r"decay=1.0"):
        config(decay=1.0)
    with pytest.raises(ConfigError, match=r"samples=100 hold no token"):
        config(samples=100)
    with pytest.raises(ConfigError, match=r"level=3 is unknown"):
        config(level=3)
    published = TokenizerConfig.preset("jukebox").level_config
    assert (published.width, published.depth, published.codes, published.hop) == (32, 4, 2048, 128)


def test_a_loss_that_is_not_finite_ends_the_training():
    training = TokenizerTraining(config(plain_steps=0), lambda step: music(step))
    training.model.decoder.out.bias.data[:] = float("inf")
    with pytest.raises(ConfigError, match=r"the loss is (nan|inf) at step 0.*Lower the rate"):
        training.run()


def test_measures_of_a_tokenizer_that_knows_its_data():
    model = TokenizerTraining(config(steps=8), music).run()
    excerpts = [np.concatenate([music(step)[0] for step in range(6)]) for _ in range(2)]
    report = measure_tokenizer(model, [*excerpts, np.zeros(60, np.float32)])
    assert report["tokens"] == 2 * 6 * 2048 // 128
    assert 0 < report["used"] <= 1 and 1 <= report["perplexity"] <= 16 * report["used"] + 1e-6
    latents = model.latents(torch.from_numpy(excerpts[0])[None])[0].T
    model.codebook.copy_(latents[torch.arange(16) % len(latents)])
    model.codebook[:] = latents.mean(0)  # a codebook of the mean alone explains nothing
    assert abs(measure_tokenizer(model, excerpts)["quantisation_error"] - 1) < 1e-3


@pytest.mark.slow
def test_the_tiny_preset_uses_its_codebook():
    """Three quarters of a minute on two quiet cores; on real music docs/tokens.md has the figures."""
    settings = TokenizerConfig.preset("tiny", batch=2, samples=8192, restart=0.3)
    rng = np.random.default_rng(5)
    chords = []
    for _ in range(24):
        time = np.arange(44100) / 44100
        wave = sum(
            rng.uniform(0.05, 0.2) * np.sin(2 * np.pi * f * k * time) / k
            for f in rng.uniform(80, 900, 3)
            for k in (1, 2, 3, 5)
        )
        hits = rng.normal(0, 0.2, 44100) * np.exp(-(time % rng.uniform(0.15, 0.4)) * 40)
        chords.append((wave + hits).astype(np.float32))

    def draw(step: int) -> np.ndarray:
        own = np.random.default_rng([1, step + 100])
        starts = own.integers(0, 44100 - 8192, 2)
        return np.stack([chords[own.integers(20)][start : start + 8192] for start in starts])

    training = TokenizerTraining(settings, draw)
    report = measure_tokenizer(training.run(), chords[20:], decoded=0)
    assert report["used"] > 0.3
