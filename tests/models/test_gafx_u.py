from __future__ import annotations

import dataclasses
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from demucs.hdemucs import HDemucs
from safetensors.torch import save_file

from featstore.errors import CheckpointError, ConfigError
from featstore.models import create
from featstore.models.cost import count_macs, count_parameters
from featstore.models.demucs_spectra import SOURCES, compress, features_from_branches, hybrid_stft
from featstore.models.demucs_weights import read_hdemucs
from featstore.models.tapped_demucs import TappedDemucs

NARROW = {"channels": 4, "nfft": 1024, "depth": 5}
SMALL = {"n_samples": 3000, "n_classes": 3, "depth": 1, "hdemucs": NARROW}


def signal(n_samples: int, batch: int = 2, channels: int = 1) -> torch.Tensor:
    return torch.randn(batch, channels, n_samples, generator=torch.Generator().manual_seed(3)) / 5


def test_sizes_of_the_table() -> None:
    with torch.device("meta"):
        model = create("gafx-u", n_samples=480_000, n_classes=10).eval()
    assert count_parameters(model)[0] == 89_208_722
    parts = {"encoder": 39_094_216, "decoder": 36_174_976, "tencoder": 4_029_576, "tdecoder": 4_314_488}
    parts |= {"freq_emb": 24_576}
    assert {name: count_parameters(model.extractor.get_submodule(name))[0] for name in parts} == parts
    for n_samples, frames in ((480_000, 1876), (479_233, 1876), (480_256, 1876), (480_257, 1880), (1_323_000, 5168)):
        assert dataclasses.replace(model.config, n_samples=n_samples).n_frames == frames


@pytest.mark.slow
def test_multiply_accumulates_of_the_table() -> None:
    with torch.device("meta"):
        model = create("gafx-u", n_samples=480_000, n_classes=10).eval()
    with torch.no_grad():
        assert model.extract(torch.empty(1, 1, 480_000, device="meta")).shape == (1, 128, 1876)
    assert count_macs(model, (1, 1, 480_000)) / 1e9 == pytest.approx(113.5 + 9.1, abs=0.1)


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("n_samples", [3000, 3072, 3073, 4095])
def test_tap_changes_nothing(old: bool, n_samples: int) -> None:
    torch.manual_seed(0)
    untouched = HDemucs(list(SOURCES), hybrid_old=old, **NARROW).eval()
    tapped = TappedDemucs(list(SOURCES), hybrid_old=old, **NARROW).eval()
    tapped.load_state_dict(untouched.state_dict())
    x = signal(n_samples, channels=2)
    with torch.no_grad():
        z, w = tapped.branches(x)
        assert z.shape == (2, 4, 2, 512, -(-n_samples // 256)) and w.shape == (2, 4, 2, n_samples)
        assert (w + untouched._ispec(z, n_samples) - untouched(x)).abs().max() == 0
        framed = hybrid_stft(x, 1024, 256, zeros=old)
        assert (framed - untouched._spec(x)).abs().max() == 0
    assert tapped._tapped is None


def test_features_are_grouped_means_of_magnitudes() -> None:
    rng = torch.Generator().manual_seed(0)
    n_fft, hop, n_samples, frames = 256, 64, 1000, 16
    z = torch.randn(2, 4, 2, 128, frames, dtype=torch.complex64, generator=rng)
    w = torch.randn(2, 4, 2, n_samples, generator=rng)
    found = features_from_branches(z.numpy(), w.numpy(), n_fft, hop)
    assert found.shape == (2, 8, 4 * frames)
    # written out for one source, one frame and one band
    for source, frame, band in ((0, 0, 0), (2, 7, 3), (3, 15, 7)):
        total = 0.0
        for channel in range(2):
            mirrored = torch.nn.functional.pad(w[1:, source, channel], (96 + 128, 120 + 128), mode="reflect")[0]
            cut = mirrored[(frame + 2) * hop :][:n_fft]
            spectrum = torch.fft.rfft(cut.double() * torch.hann_window(n_fft, dtype=torch.float64)) / n_fft**0.5
            bins = slice(16 * band, 16 * band + 16)
            total += float((spectrum[bins] + z[1, source, channel, bins, frame]).abs().mean()) / 2
        if 0 < frame < 15:  # at the edges the library mirrors twice
            assert float(found[1, band, source * frames + frame]) == pytest.approx(total, rel=1e-5)
    alone = features_from_branches(z[1], w[1], n_fft, hop)
    torch.testing.assert_close(alone, found[1])


def test_branches_are_added_before_the_magnitude() -> None:
    w = signal(6000, batch=4, channels=2)[None]
    z = -hybrid_stft(w, 4096, 1024)
    assert features_from_branches(z, w, 4096, 1024).max() == 0


def test_compression() -> None:
    x = torch.tensor([0.0, 1e-6, 1.0, 10.0])
    assert compress(x, "db").tolist() == pytest.approx([-100, -100, 0, 20])
    assert compress(x, "log1p").tolist() == pytest.approx([0, 1e-6, 0.6931472, 2.3978953])
    assert torch.equal(compress(x, "none"), x)


@pytest.mark.parametrize("n_samples", [3000, 2999, 3072, 3073])
def test_silence_and_odd_lengths(n_samples: int) -> None:
    torch.manual_seed(0)
    model = create("gafx-u", **SMALL).train()
    x = signal(n_samples)
    x[1] = 0
    picture = model.extract(x)
    assert picture.shape == (2, 32, 4 * -(-n_samples // 256))
    assert torch.isfinite(picture).all()
    model(x).square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_sources_are_joined_when_read() -> None:
    torch.manual_seed(0)
    model = create("gafx-u", compression="none", **SMALL).eval()
    x = signal(3000)
    with torch.no_grad():
        sources = model.draw(x)
        assert sources.shape == (2, 4, 32, 12)
        joined = features_from_branches(*model.extractor.branches(x.expand(-1, 2, -1)), 1024, 256)
        torch.testing.assert_close(sources[:, 1], joined[..., 12:24])
        torch.testing.assert_close(model.join(sources), model.extract(x))
        torch.testing.assert_close(model(x.expand(-1, 2, -1)), model(x))


def test_frozen_extractor() -> None:
    torch.manual_seed(0)
    model = create("gafx-u", frozen=True, **SMALL).train()
    assert not model.extractor.training and model.trunk.training
    model(signal(3000)).square().sum().backward()
    assert all(p.grad is None for p in model.extractor.parameters())
    assert all(p.grad is not None for p in model.trunk.parameters())
    assert count_parameters(model)[1] == count_parameters(model)[0] - count_parameters(model.extractor)[0]


def test_checkpointing_changes_no_gradient() -> None:
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        model = create("gafx-u", checkpointing=checkpointing, **SMALL).train()
        model(signal(3000)).square().sum().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    for name, wanted in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], wanted, rtol=1e-3, atol=1e-6)


def test_settings_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match=r"hdemucs has 'chanels'.*Did you mean channels"):
        create("gafx-u", **SMALL | {"hdemucs": {"chanels": 8}})
    with pytest.raises(ConfigError, match="hdemucs has 'sources', which is no setting"):
        create("gafx-u", **SMALL | {"hdemucs": {"sources": ["drums"]}})
    with pytest.raises(ConfigError, match="n_samples=640 is too short for a window of 1024"):
        create("gafx-u", **SMALL | {"n_samples": 640})
    with pytest.raises(ConfigError, match="hop_length=100 is not a quarter"):
        hybrid_stft(torch.zeros(1, 8000), 4096, 100)
    with pytest.raises(ConfigError, match=r"input of shape \(1, 3, 3000\)"):
        create("gafx-u", **SMALL).extract(torch.zeros(1, 3, 3000))


# --- weights from files


def package(network: HDemucs, **changes: Any) -> dict[str, Any]:
    """What the library writes into a .th file."""
    args, kwargs = network._init_args_kwargs
    state = {name: tensor.half() for name, tensor in network.state_dict().items()}
    content = {"klass": HDemucs, "args": args, "kwargs": kwargs, "state": state, "training_args": {"lr": 3e-4}}
    return content | changes


@pytest.fixture(scope="module")
def network() -> HDemucs:
    torch.manual_seed(0)
    return HDemucs(sources=list(SOURCES), hybrid_old=True, **NARROW)


def test_file_of_the_library(network: HDemucs, tmp_path: Path) -> None:
    torch.save(package(network), tmp_path / "member.th")
    settings, state = read_hdemucs(tmp_path / "member.th")
    assert settings == {**NARROW, "hybrid_old": True}
    model = create("gafx-u", **SMALL | {"hdemucs": settings})
    model.extractor.load_state_dict(state, strict=True)
    assert model.extractor.hybrid_old
    name = "encoder.2.conv.weight"
    assert state[name].dtype == torch.float32
    assert torch.equal(state[name], network.state_dict()[name].half().float())


def test_safetensors_of_the_library(network: HDemucs, tmp_path: Path) -> None:
    kwargs = {"sources": list(SOURCES), "hybrid_old": True, **NARROW}
    metadata = {"klass": "demucs.hdemucs.HDemucs", "args": "[]", "kwargs": json.dumps(kwargs)}
    save_file(network.state_dict(), tmp_path / "member.safetensors", metadata=metadata)
    settings, state = read_hdemucs(tmp_path / "member.safetensors")
    assert settings == {**NARROW, "hybrid_old": True}
    assert all(torch.equal(state[name], tensor) for name, tensor in network.state_dict().items())
    metadata["klass"] = "demucs.htdemucs.HTDemucs"
    save_file(network.state_dict(), tmp_path / "other.safetensors", metadata=metadata)
    with pytest.raises(CheckpointError, match=r"holds demucs\.htdemucs\.HTDemucs, no Hybrid Demucs"):
        read_hdemucs(tmp_path / "other.safetensors")


def test_names_of_torchaudio(tmp_path: Path) -> None:
    torch.manual_seed(0)
    plain = HDemucs(sources=list(SOURCES), channels=4)
    names = {"encoder": "freq_encoder", "decoder": "freq_decoder", "tencoder": "time_encoder"}
    names |= {"tdecoder": "time_decoder"}
    theirs = {}
    for name, tensor in plain.state_dict().items():
        part, _, rest = name.partition(".")
        theirs[f"{names.get(part, part)}.{rest}"] = tensor
    theirs |= {"time_encoder.4.norm1.weight": torch.ones(64), "time_encoder.4.norm1.bias": torch.zeros(64)}
    torch.save(theirs, tmp_path / "hdemucs.pt")
    settings, state = read_hdemucs(tmp_path / "hdemucs.pt")
    assert settings == {"channels": 4}
    assert set(state) == set(plain.state_dict())
    assert all(torch.equal(state[name], tensor) for name, tensor in plain.state_dict().items())


class Evil:
    """Runs something when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("run",)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kwargs": {"sources": ["vocals", "drums", "bass", "other"], **NARROW}}, "sources is .'vocals'"),
        ({"kwargs": {"sources": list(SOURCES), **NARROW, "hybrid": False}}, "hybrid is False, not True"),
        ({"kwargs": {"sources": list(SOURCES), **NARROW, "bottom": 1}}, "bottom is no setting"),
        ({"kwargs": {"sources": list(SOURCES), **NARROW, "channels": 8}}, "has shape"),
        ({"state": {"__quantized": True}}, "quantised"),
        ({"klass": "HDemucs"}, "holds 'HDemucs', no Hybrid Demucs"),
        ({"klass": Evil}, "no file of one Hybrid Demucs: it holds"),
        ({"training_args": Evil()}, "no file of one Hybrid Demucs: it holds"),
    ],
)
def test_files_that_are_refused(
    network: HDemucs, changes: dict[str, Any], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(package(network, **changes), tmp_path / "member.th")
    with pytest.raises(CheckpointError, match=message):
        read_hdemucs(tmp_path / "member.th")
    assert "run" not in capsys.readouterr().out.split()


def test_other_files_that_are_refused(network: HDemucs, tmp_path: Path) -> None:
    lacking = package(network)
    del lacking["state"]["decoder.3.conv_tr.bias"]
    torch.save(lacking, tmp_path / "lacking.th")
    with pytest.raises(CheckpointError, match=r"the checkpoint lacks decoder\.3\.conv_tr\.bias"):
        read_hdemucs(tmp_path / "lacking.th")
    (tmp_path / "mdx_extra.yaml").write_text("models: ['e51eebcc', 'a1d90b5c']\n")
    with pytest.raises(CheckpointError, match=r"a bag of several models.*Give the file of one"):
        read_hdemucs(tmp_path / "mdx_extra.yaml")
    torch.save({"state": {}}, tmp_path / "odd.th")
    with pytest.raises(CheckpointError, match="lacks klass, args, kwargs or state"):
        read_hdemucs(tmp_path / "odd.th")
    whole = (tmp_path / "lacking.th").read_bytes()
    (tmp_path / "torn.th").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"the file is truncated"):
        read_hdemucs(tmp_path / "torn.th")
    with pytest.raises(CheckpointError, match="there is no file"):
        read_hdemucs(tmp_path / "none.th")
    assert zipfile.is_zipfile(tmp_path / "odd.th")
