"""Tokens of long signals: receptive fields, windows against one pass, batches and threads, odd input."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import featstore.models.jukebox_tokenizer as module
from featstore.errors import CheckpointError, ConfigError, DecodeError
from featstore.models.conv_field import conv_field
from featstore.models.jukebox_checkpoint import LoadedLevel
from featstore.models.jukebox_tokenizer import JukeboxTokenizer, window_tokens
from featstore.models.jukebox_vqvae import JukeboxLevel, LevelConfig, nearest_codes, published_config
from featstore.models.token_windows import NEAR_TIE
from featstore.models.window_cutters import ReceptiveField
from tests.models.jukebox_files import encode_together, encode_with_margins, random_level, small_config

MARGIN = 1e-3  # where the nearest code wins by less, rounding may decide


def tokenizer(config: LevelConfig, *, strength: float = 2.5, seed: int = 0) -> JukeboxTokenizer:
    return JukeboxTokenizer(LoadedLevel(random_level(config, seed, strength=strength), "0" * 32, {}))


def noise(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, n).astype(np.float32)


def one_pass(model: JukeboxTokenizer, signal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tokens of the whole signal at once, and the margins of their codes."""
    return model.tokens_of(signal[None], margins=True)[0]


def differing(found: np.ndarray, wanted: np.ndarray, margins: np.ndarray) -> int:
    """Near ties that went the other way; anything else that differs is an error."""
    assert found.shape == wanted.shape
    wrong = found != wanted
    assert not (wrong & (margins > MARGIN)).any()
    return int(wrong.sum())


# -- receptive fields ------------------------------------------------------------


def field_of(config: LevelConfig) -> ReceptiveField:
    with torch.device("meta"):
        found = conv_field(JukeboxLevel(config, with_decoder=False).encoder)
    assert found is not None and found.hop == config.hop
    return found


def test_published_fields():
    sizes = [(field_of(config), config.decoder_context) for config in map(published_config, range(3))]
    assert [(field.hop, field.left, field.right, context) for field, context in sizes] == [
        (8, 45935, 45942, 5742),
        (32, 2551, 2582, 80),
        (128, 10455, 10582, 82),
    ]
    with pytest.raises(ConfigError, match=r"level=3"):
        published_config(3)


@pytest.mark.parametrize(
    ("downs", "depth", "growth"), [((1,), 1, 3), ((3,), 2, 3), ((2, 1), 3, 2), ((1, 2, 1), 2, 1), ((3, 2), 3, 3)]
)
def test_gradients_reach_exactly_the_field(downs, depth, growth):
    config = LevelConfig(level=len(downs) - 1, width=2, depth=depth, embedding=2, codes=4, downs=downs, growth=growth)
    model = JukeboxLevel(config).double()
    for parameter in model.parameters():
        parameter.data.abs_().add_(0.1)  # nothing cancels and no unit is dead
    field = field_of(config)
    middle = field.left // config.hop + 2
    signal = torch.rand(
        (1, config.hop * middle + field.right + 3 * config.hop), dtype=torch.float64, requires_grad=True
    )
    (gradient,) = torch.autograd.grad(model.latents(signal)[0, :, middle].sum(), signal)
    touched = torch.nonzero(gradient[0])[:, 0]
    assert int(touched[0]) == config.hop * middle - field.left
    assert int(touched[-1]) == config.hop * middle + field.right

    context = config.decoder_context
    vectors = torch.rand((1, 2, 2 * context + 7), dtype=torch.float64, requires_grad=True)
    assert model.decoder is not None
    at = context + 3
    wave = model.decoder(vectors)[0, 0, config.hop * at : config.hop * (at + 1)]
    (gradient,) = torch.autograd.grad(wave.sum(), vectors)
    touched = torch.nonzero(gradient.abs().sum(1)[0])[:, 0]
    reach = max(at - int(touched[0]), int(touched[-1]) - at)
    assert reach == context


# -- windows ------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("level", [0, 1, 2])
def test_windows_give_the_tokens_of_one_pass(level, monkeypatch):
    config = small_config(level, depth=3)
    model = tokenizer(config)
    hop, reach = config.hop, field_of(config).length
    near_ties = total = 0
    for window in (1, 7, 64):
        monkeypatch.setattr(module, "_WINDOW_SAMPLES", (window * hop, window * hop))
        for n in (hop, hop + 1, 2 * hop - 1, reach // 2, reach + hop - 1, reach + 40 * hop, reach + 40 * hop + 1):
            signal = noise(n, seed=n)
            wanted, margins = one_pass(model, signal)
            near_ties += differing(model.encode(signal)[0], wanted, margins)
            total += len(wanted)
            assert len(wanted) == n // hop == model.n_tokens(n)
    assert near_ties <= 0.002 * total


@pytest.mark.slow
@pytest.mark.parametrize("level", [0, 1, 2])
def test_published_sizes_in_windows(level, monkeypatch):
    config = published_config(level)
    model = tokenizer(config, strength=2.0 if level else 1.2)  # more would blow up over 24 blocks
    monkeypatch.setattr(module, "_WINDOW_SAMPLES", (1 << 15, 1 << 15))
    signal = noise(2 * field_of(config).length + 5 if level else 1 << 17)
    wanted, margins = one_pass(model, signal)
    assert len(np.unique(wanted)) > 40
    assert differing(model.encode(signal)[0], wanted, margins) <= max(2, 0.002 * len(wanted))


def test_an_overlap_that_is_too_short_shows(monkeypatch):
    """The test above can see a mistake: strong residual branches make the field's edge count."""
    config = small_config(2, depth=3)
    model = tokenizer(config)
    monkeypatch.setattr(module, "_WINDOW_SAMPLES", (16 * 128, 16 * 128))
    signal = noise(200 * 128)
    wanted, _ = one_pass(model, signal)

    model._field = replace(model._field, left=model._field.left // 2)
    assert (model.encode(signal)[0] != wanted).sum() > 5


@pytest.mark.parametrize("level", [0, 2])
@pytest.mark.parametrize("size", [1, 100, 4096, 10**6])
def test_a_stream_gives_the_same_tokens_whatever_its_blocks(level, size, monkeypatch):
    config = small_config(level)
    model = tokenizer(config)
    monkeypatch.setattr(module, "_WINDOW_SAMPLES", (1 << 12, 1 << 12))
    signal = noise(300 if size == 1 else 20_011)
    stream, parts = model.stream(), []
    for at in range(0, len(signal), size):
        parts.append(stream.push(signal[at : at + size]))
    parts.append(stream.finish())
    assert np.array_equal(np.concatenate(parts, axis=1), model.encode(signal))


def test_a_stream_holds_a_window_and_no_more(monkeypatch):
    config = small_config(1)
    monkeypatch.setattr(module, "_WINDOW_SAMPLES", (1 << 13, 1 << 13))
    cutter = tokenizer(config).cutter()
    most = 0
    for _ in range(60):
        cutter.push(noise(1 << 12))
        most = max(most, sum(map(len, cutter._held._parts)))
    assert most <= (1 << 13) + field_of(config).length + 2 * (1 << 12)


def test_windows_of_the_published_sizes():
    fields = [field_of(published_config(level)) for level in range(3)]
    assert [window_tokens(field) for field in fields] == [65536, 8192, 2048]
    span = fields[2].span(2048, 4096, 10**7)
    assert (span.start, span.stop, span.drop) == (128 * (2048 - 82), 128 * 4095 + 10583, 82)


# -- batches, threads, ties ------------------------------------------------------------


def test_a_batch_gives_what_each_signal_gives_alone(monkeypatch):
    monkeypatch.setattr(module, "_WINDOW_SAMPLES", (1 << 13, 1 << 13))
    model = tokenizer(small_config(2))
    signals = [noise(n, seed=n) for n in (30_000, 30_000, 500, 128, 41_333, 127, 30_000)]
    alone = [model.encode(signal) for signal in signals]
    for batch in (1, 2, 5):
        model.batch = batch
        together = encode_together(model, signals)
        assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))
    assert alone[5].shape == (1, 0)


def test_one_and_two_threads_agree_but_for_near_ties():
    model = tokenizer(published_config(2), strength=2.0)
    signal, threads = noise(1 << 17), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        wanted, margins = one_pass(model, signal)
        torch.set_num_threads(2)
        found, _ = one_pass(model, signal)
    finally:
        torch.set_num_threads(threads)
    assert differing(found, wanted, margins) <= 2


def test_nearest_code_against_plain_arithmetic_and_ties_go_to_the_lowest():
    rng = np.random.default_rng(0)
    latents, codes = rng.normal(size=(5000, 8)), rng.normal(size=(30, 8))
    codes[17] = codes[4]
    distance = ((latents[:, None] - codes[None]) ** 2).sum(-1)
    found, gaps = nearest_codes(torch.tensor(latents), torch.tensor(codes), margins=True)
    assert np.array_equal(found.numpy(), distance.argmin(1)) and 17 not in found and 4 in found
    two = np.sort(distance, axis=1)[:, :2]
    assert gaps is not None and np.allclose(gaps.numpy(), (two[:, 1] - two[:, 0]) / two[:, 1])
    lone, gaps = nearest_codes(torch.ones(3, 2), torch.ones(1, 2), margins=True)
    assert lone.tolist() == [0] * 3 and gaps is not None and gaps.tolist() == [1.0] * 3
    equal = torch.zeros(3, 2)
    assert nearest_codes(torch.ones(4, 2), equal)[0].tolist() == [0] * 4
    assert module.nearest_codes(torch.ones(0, 2), equal)[0].shape == (0,)


def test_a_stream_counts_near_ties(monkeypatch):
    monkeypatch.setattr(module, "_WINDOW_SAMPLES", (1 << 12, 1 << 12))
    model = tokenizer(small_config(2))
    model.model.codebook[30] = model.model.codebook[7]  # equal codes tie wherever they win
    signal = noise(60_000)
    ((tokens, gaps),) = encode_with_margins(model, [signal])
    expected = int((gaps < NEAR_TIE).sum())
    assert expected >= int((tokens == 7).sum()) > 0 and 30 not in tokens
    stream = model.stream()
    assert stream.near_ties is None
    for at in range(0, len(signal), 7000):
        stream.push(signal[at : at + 7000])
    stream.finish()
    assert stream.near_ties == expected


@pytest.mark.parametrize("sizes", ["small", pytest.param("published", marks=pytest.mark.slow)])
def test_the_company_of_a_window_changes_nothing(sizes, monkeypatch):
    """On a GPU every pass has the same number of windows, silent ones among them; here it is done on the CPU."""
    monkeypatch.setattr(module, "_WINDOW_SAMPLES", (1 << 13, 1 << 13))
    model = tokenizer(small_config(2) if sizes == "small" else published_config(2), strength=2.0)
    signals = [noise(n, seed=n) for n in ((30_000, 30_000, 500, 41_333) if sizes == "small" else (20_000, 20_000))]
    passes, latents = [], model.model.latents
    monkeypatch.setattr(model.model, "latents", lambda x: (passes.append(len(x)), latents(x))[1])
    for size in (1, 3):
        passes.clear()
        model.pass_size = size
        alone = [encode_with_margins(model, [signal])[0] for signal in signals]
        for batch in (2, 3, 8):
            model.batch = batch
            together = encode_with_margins(model, signals)
            assert all(
                np.array_equal(a[0], b[0]) and np.array_equal(a[1], b[1]) for a, b in zip(alone, together, strict=True)
            )
        assert set(passes) == {size}
    assert len(model.tokens_of(np.stack([signals[0]] * 4))) == 4


# -- decoding ------------------------------------------------------------


@pytest.mark.parametrize("level", [0, 2])
def test_decoding_in_windows_is_decoding_in_one(level, monkeypatch):
    model = tokenizer(small_config(level, depth=3), strength=1.0)
    tokens = np.random.default_rng(0).integers(0, 40, (1, 400))
    whole = model.model.decode(torch.from_numpy(tokens)).detach().numpy()
    monkeypatch.setattr(module, "_DECODE_SAMPLES", 50 * model.info.hop)
    assert np.abs(model.decode(tokens) - whole).max() < 1e-5 * np.abs(whole).max()
    assert model.decode(tokens[:, :0]).shape == (1, 0)


def test_decoding_refuses_what_is_no_token():
    model = tokenizer(small_config(1))
    with pytest.raises(CheckpointError, match=r"40 is no token: the vocabulary is 40"):
        model.decode(np.array([[0, 40]]))
    with pytest.raises(CheckpointError, match=r"shape \(2, 3\) are not \(1, frames\)"):
        model.decode(np.zeros((2, 3), np.int32))
    with pytest.raises(ConfigError, match=r"codebook=1"):
        model.codebook_vectors(1)
    assert np.array_equal(model.codebook_vectors(0), model.model.codebook.numpy())


# -- odd signals ------------------------------------------------------------


def test_silence_full_scale_and_constants_have_tokens():
    model = tokenizer(small_config(2))
    for signal in (np.zeros(9000), np.full(9000, 0.5), np.sign(noise(9000))):
        tokens = model.encode(signal.astype(np.float32))
        assert tokens.shape == (1, 70) and tokens.dtype == np.int32 and tokens.min() >= 0 and tokens.max() < 40
    middle = model.encode(np.zeros(128 * 400, np.float32))[0, 100:300]
    assert len(np.unique(middle)) == 1  # away from the edges silence is one code


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_have_none(value):
    signal = noise(9000)
    signal[77] = value
    with pytest.raises(DecodeError, match=r"a value that is not finite"):
        tokenizer(small_config(2)).encode(signal)
