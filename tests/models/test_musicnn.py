from __future__ import annotations

import numpy as np
import pytest
import torch

from featstore.errors import ConfigError
from featstore.models import create, setting_names
from featstore.models.cost import count_macs, count_parameters

# published counts, trainable, 50 classes: (model, bands) -> parameters
PARAMETERS = {
    ("musicnn", 96): 8_033_622,
    ("musicnn-f16", 96): 6_123_398,
    ("musicnn-at-scale", 96): 5_926_198,
    ("musicnn-released", 96): 7_564_578,
    ("mtt-musicnn", 96): 787_159,
    ("msd-musicnn", 96): 787_159,
    ("mtt-musicnn", 128): 837_139,
    ("mtt-musicnn", 48): 711_475,
    ("msd-musicnn-big", 96): 7_980_235,
    ("mtt-vgg", 96): 605_748,
    ("msd-vgg", 96): 605_748,
}
# (model, bands, frames) -> 10^9 multiply-accumulates an input
GMACS = {
    ("musicnn", 96, 128): 1.230,
    ("musicnn", 128, 128): 1.564,
    ("musicnn", 48, 128): 0.901,
    ("musicnn-f16", 96, 128): 0.783,
    ("musicnn-f16", 128, 128): 0.950,
    ("musicnn-f16", 48, 128): 0.619,
    ("mtt-musicnn", 96, 187): 1.399,
    ("mtt-musicnn", 128, 187): 2.344,
    ("mtt-musicnn", 48, 187): 0.454,
    ("msd-musicnn-big", 96, 187): 2.405,
    ("musicnn-released", 96, 128): 1.327,
    ("musicnn-released", 128, 128): 1.563,
    ("musicnn-released", 48, 128): 0.573,
}


def on_meta(name: str, n_mels: int, n_frames: int = 187, **settings: object) -> torch.nn.Module:
    with torch.device("meta"):
        return create(name, n_mels=n_mels, n_frames=n_frames, n_classes=50, **settings).eval()


@pytest.mark.parametrize(("case", "parameters"), PARAMETERS.items())
def test_parameters(case: tuple[str, int], parameters: int) -> None:
    assert count_parameters(on_meta(*case)) == (parameters, parameters)


@pytest.mark.parametrize(("case", "gmacs"), GMACS.items())
def test_multiply_accumulates(case: tuple[str, int, int], gmacs: float) -> None:
    name, n_mels, n_frames = case
    macs = count_macs(on_meta(name, n_mels, n_frames), (1, 1, n_mels, n_frames))
    assert macs / 1e9 == pytest.approx(gmacs, abs=5.01e-4)


@pytest.mark.parametrize(
    ("name", "high", "low"), [("musicnn", "115 86 43", "51 38 19"), ("mtt-musicnn", "51 38 19", "89 67 33")]
)
def test_heights_of_the_timbral_kernels(name: str, high: str, low: str) -> None:
    for n_mels, one, other in zip((128, 96, 48), high.split(), low.split(), strict=True):
        heights = [branch.conv.kernel_size[0] for branch in on_meta(name, n_mels).timbral]
        half = len(heights) // 2
        assert heights == [int(one)] * half + [int(other)] * half


def test_filters_of_the_front_ends() -> None:
    def filters(name: str) -> tuple[list[int], list[int]]:
        model = on_meta(name, 96)
        return ([b.conv.out_channels for b in model.timbral], [b.conv.out_channels for b in model.temporal])

    assert filters("musicnn") == ([64, 128, 256] * 2, [32] * 4)
    assert filters("musicnn-f16") == ([32, 64, 128] * 2, [16] * 4)
    assert filters("musicnn-at-scale") == ([16, 32, 64] * 2, [16, 32, 64, 128])
    assert filters("mtt-musicnn") == ([204] * 2, [51] * 3)
    assert on_meta("musicnn", 96).first.conv.in_channels == 1024
    assert on_meta("musicnn-at-scale", 96).first.conv.in_channels == 464
    assert on_meta("mtt-musicnn", 96).hidden.in_features == 1506
    assert on_meta("msd-musicnn-big", 96).hidden.in_features == 4194


@pytest.mark.parametrize("name", ["musicnn", "musicnn-at-scale", "mtt-musicnn", "msd-musicnn-big"])
@pytest.mark.parametrize("n_mels", [128, 96, 48, 32, 24, 16, 8])
def test_any_bands_and_frames_of_the_study(name: str, n_mels: int) -> None:
    for n_frames in (8, 100, 128, 140, 187, 938):  # 3 s are 140 frames at 12 kHz and 187 at 16 kHz
        model = on_meta(name, n_mels, n_frames)
        assert model(torch.empty(2, 1, n_mels, n_frames, device="meta")).shape == (2, 50)
    assert model(torch.empty(2, 1, n_mels, 51, device="meta")).shape == (2, 50), "weights do not depend on the length"


def test_batch_norms_are_those_of_tensorflow() -> None:
    kinds = (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)
    for name in ("musicnn", "mtt-musicnn", "mtt-vgg"):
        norms = [module for module in on_meta(name, 96).modules() if isinstance(module, kinds)]
        assert len(norms) == {"musicnn": 14, "mtt-musicnn": 11, "mtt-vgg": 6}[name]
        assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.01)}


def test_first_back_end_convolution_is_valid_and_the_others_keep_the_length() -> None:
    model, lengths = on_meta("musicnn", 96, 128), []
    for layer in (model.first, model.second, model.third):
        layer.register_forward_hook(lambda _m, _i, output: lengths.append(output.shape[2]))
    model(torch.empty(1, 1, 96, 128, device="meta"))
    assert lengths == [122, 122, 61]


def plain_musicnn(model: torch.nn.Module, x: np.ndarray) -> np.ndarray:
    """The study's network written out in float64 numpy: x (bands, frames) to logits."""
    state = {name: value.double().numpy() for name, value in model.state_dict().items()}

    def norm(name: str, y: np.ndarray) -> np.ndarray:
        scale = state[f"{name}.weight"] / np.sqrt(state[f"{name}.running_var"] + 1e-3)
        return (y.T * scale + state[f"{name}.bias"] - state[f"{name}.running_mean"] * scale).T

    def along_time(name: str, y: np.ndarray, left: int, right: int) -> np.ndarray:
        kernel = state[f"{name}.conv.weight"]
        padded = np.pad(y, ((0, 0), (left, right)))
        frames = padded.shape[1] - kernel.shape[2] + 1
        out = [np.einsum("oik,ik->o", kernel, padded[:, t : t + kernel.shape[2]]) for t in range(frames)]
        return norm(f"{name}.norm", np.maximum(np.stack(out, axis=1) + state[f"{name}.conv.bias"][:, None], 0))

    parts = []
    for i, (share, width) in enumerate((share, width) for share in (0.9, 0.4) for width in (7, 3, 1)):
        height, kernel = int(share * len(x)), state[f"timbral.{i}.conv.weight"][:, 0]
        padded = np.pad(x, ((0, 0), (width // 2, width // 2)))
        places = [
            np.stack([np.einsum("ohk,hk->o", kernel, padded[m : m + height, t : t + width]) for t in range(x.shape[1])])
            for m in range(len(x) - height + 1)
        ]
        response = np.maximum(np.stack(places).transpose(2, 0, 1) + state[f"timbral.{i}.conv.bias"][:, None, None], 0)
        normed = np.stack([norm(f"timbral.{i}.norm", response[:, m]) for m in range(response.shape[1])], axis=1)
        parts.append(normed.max(axis=1))
    for i, width in enumerate((165, 128, 64, 32)):
        parts.append(along_time(f"temporal.{i}", x.mean(axis=0)[None], (width - 1) // 2, width // 2))
    first = along_time("first", np.concatenate(parts), 0, 0)
    second = along_time("second", first, 3, 3) + first
    pooled = second[:, : second.shape[1] // 2 * 2].reshape(len(second), -1, 2).max(axis=2)
    third = along_time("third", pooled, 3, 3) + pooled
    vector = np.concatenate([third.max(axis=1), third.mean(axis=1)])
    hidden = norm("hidden_norm", np.maximum(state["hidden.weight"] @ vector + state["hidden.bias"], 0))
    return state["output.weight"] @ hidden + state["output.bias"]


@pytest.mark.parametrize("name", ["musicnn", "musicnn-at-scale"])
def test_the_study_network_equals_its_description(name: str) -> None:
    rng = torch.Generator().manual_seed(3)
    torch.manual_seed(1)
    model = create(name, n_mels=12, n_frames=21, n_classes=5, width=1 / 16)
    model.train()(torch.randn(8, 1, 12, 21, generator=rng))  # moves the running statistics
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):  # some scales below zero
                module.weight.copy_(torch.randn(module.weight.shape, generator=rng))
                module.bias.copy_(torch.randn(module.bias.shape, generator=rng))
        x = torch.randn(2, 1, 12, 21, generator=rng)
        logits = model.eval()(x).numpy()
    for one, found in zip(x.double().numpy(), logits, strict=True):
        np.testing.assert_allclose(found, plain_musicnn(model, one[0]), atol=2e-4, rtol=2e-5)


def test_features_of_the_packaged_network_have_the_names_and_sizes_of_the_package() -> None:
    torch.manual_seed(0)
    model = create("mtt-musicnn", n_mels=96, n_frames=40, n_classes=50).eval()
    x = torch.rand(3, 1, 96, 40)
    with torch.no_grad():
        found = model.activations(x)
        assert torch.equal(model.output(found["penultimate"]), model(x))
        last = model.activations(x[2:])
    frames = {"timbral": 408, "temporal": 153, "cnn1": 64, "cnn2": 64, "cnn3": 64}
    assert {name: found[name].shape for name in frames} == {name: (3, n, 40) for name, n in frames.items()}
    assert found["max_pool"].shape == found["mean_pool"].shape == (3, 753)
    assert found["penultimate"].shape == (3, 200)
    torch.testing.assert_close(found["penultimate"][2:], last["penultimate"], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(found["penultimate"][0], found["penultimate"][2]), "each input has its own"


def test_width_shrinks_the_study_network() -> None:
    small = on_meta("musicnn", 96, width=0.125)
    assert small.first.conv.in_channels == 128
    assert (small.first.conv.out_channels, small.hidden.out_features) == (64, 62)
    assert count_parameters(small)[0] < 8_033_622 / 30


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("musicnn", {"n_frames": 7}, "n_frames=7 is too few: it takes at least 8 .musicnn."),
        ("musicnn", {"n_mels": 2}, "n_mels=2 is too few"),
        ("musicnn", {"filters": 0}, "filters=0 is not a positive whole number"),
        ("musicnn", {"timbral": (1, 2)}, r"timbral=\(1, 2\) are not 3 positive whole numbers"),
        ("musicnn", {"temporal": (1, 2, 3, 0)}, "temporal=.* are not 4 positive whole numbers"),
        ("musicnn", {"width": float("nan")}, "width=nan is not finite"),
        ("musicnn", {"dropout": 1.0}, r"dropout=1.0 is not in \[0, 1\)"),
        ("musicnn", {"filter": 3}, "unknown setting 'filter'.*Did you mean filters"),
        ("musicnn-released", {"n_frames": 90}, "n_frames=90 is less than n_mels=96"),
        ("musicnn-released", {"n_mels": 7}, "n_mels=7 is too few: it takes at least 8"),
        ("mtt-musicnn", {"n_mels": 2}, "n_mels=2 is too few"),
        ("mtt-musicnn", {"norm_momentum": 0}, r"norm_momentum=0 is not in \(0, 1\]"),
        ("msd-musicnn-big", {"n_classes": 0}, "n_classes=0 is not a positive whole number"),
        ("mtt-vgg", {"n_mels": 15}, "n_mels=15 is too few: it takes at least 16"),
        ("mtt-vgg", {"n_frames": 17}, "n_frames=17 is too few: it takes at least 18"),
        ("mtt-vgg", {"filters": True}, "filters=True is not a positive whole number"),
    ],
)
def test_what_cannot_be_is_refused(name: str, wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create(name, **({"n_mels": 96, "n_frames": 187, "n_classes": 5} | wrong))


def test_the_smallest_inputs_work() -> None:
    for name, n_mels, n_frames in (("musicnn", 3, 8), ("mtt-musicnn", 3, 1), ("mtt-vgg", 16, 18)):
        model = create(name, n_mels=n_mels, n_frames=n_frames, n_classes=2).eval()
        assert model(torch.zeros(1, 1, n_mels, n_frames)).shape == (1, 2)


def test_the_released_form_has_its_axes_swapped() -> None:
    """Its first kernel spans 86 frames and 7 bands; its last vector has two values for each pooled band."""
    model = on_meta("musicnn-released", 96, 128)
    assert count_parameters(on_meta("musicnn-released", 96, 128, filters=16))[0] == 5_654_354
    seen: dict[str, tuple[int, ...]] = {}
    for name, layer in (("front", model.timbral[0].conv), ("first", model.first), ("third", model.third)):
        layer.register_forward_hook(lambda _m, _i, output, name=name: seen.update({name: tuple(output.shape)}))
    model(torch.empty(1, 1, 96, 128, device="meta"))
    assert seen == {"front": (1, 64, 43, 96), "first": (1, 512, 90), "third": (1, 512, 45)}
    assert model.hidden.in_features == 90


@pytest.mark.parametrize(("name", "gain"), [("musicnn", 1.0), ("mtt-musicnn", None), ("mtt-vgg", None)])
def test_initial_weights(name: str, gain: float | None) -> None:
    """Variance 1 / fan-in for the study's, Glorot uniform for the packaged ones; biases are zero."""
    torch.manual_seed(0)
    model = create(name, n_mels=96, n_frames=187, n_classes=50)
    for module in model.modules():
        if isinstance(module, torch.nn.Conv1d | torch.nn.Conv2d | torch.nn.Linear) and module.weight.numel() > 5000:
            fan_in = module.weight[0].numel()
            fan_out = module.weight.shape[0] * module.weight[0, 0].numel()
            expected = (1 / fan_in if gain else 2 / (fan_in + fan_out)) ** 0.5
            assert module.weight.std().item() == pytest.approx(expected, rel=0.05)
            assert not module.bias.any()


def test_names_and_settings() -> None:
    assert setting_names("musicnn-f16") == setting_names("musicnn")
    assert create("musicnn-f16", n_mels=8, n_frames=8, n_classes=2, width=0.1).config.filters == 16
    with pytest.raises(ConfigError, match=r"unknown model 'mtt_musicnn'.*Did you mean .*mtt-musicnn"):
        create("mtt_musicnn", n_mels=96, n_frames=187, n_classes=2)
