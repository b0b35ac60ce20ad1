from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from featstore.errors import CheckpointError, ConfigError
from featstore.models import create
from featstore.models.ast_transformer import (
    AUDIOSET_DEVIATION,
    AUDIOSET_MEAN,
    AstTrunk,
    from_deit,
    patch_weight,
    resize_positions,
    standardise_picture,
)
from featstore.models.ast_weights import read_deit
from featstore.models.cost import count_macs, count_parameters

SMALL = {"n_mels": 32, "n_classes": 3, "depth": 2}
State = dict[str, torch.Tensor]

# frames: tokens, parameters and GMAC of DeiT-Ti, of DeiT-S
TABLE = {
    1024: (514, 5_489_482, 3.97, 21_595_786, 13.4),
    1102: (546, 5_495_626, 4.30, 21_608_074, 14.4),
    1876: (938, 5_570_890, 9.08, 21_758_602, 28.1),
    3308: (1650, 5_707_594, 21.4, 22_032_010, 60.3),
}


@pytest.mark.slow
@pytest.mark.parametrize("n_frames", TABLE)
@pytest.mark.parametrize("size", ["tiny", "small"])
def test_sizes_of_the_table(n_frames: int, size: str) -> None:
    tokens, *sizes = TABLE[n_frames]
    parameters, gmacs = sizes[:2] if size == "tiny" else sizes[2:]
    with torch.device("meta"):
        model = create("ast", n_mels=128, n_frames=n_frames, n_classes=10, size=size)
    assert model.trunk.embeddings.position_embeddings.shape[1] == tokens
    assert count_parameters(model)[0] == parameters
    assert count_macs(model, (1, 1, 128, n_frames)) / 1e9 == pytest.approx(gmacs, rel=5e-3)


def test_forward_equals_that_of_transformers() -> None:
    from transformers import ASTConfig, ASTForAudioClassification

    config = ASTConfig(
        hidden_size=192,
        num_attention_heads=3,
        intermediate_size=768,
        num_hidden_layers=3,
        frequency_stride=16,
        time_stride=16,
        num_mel_bins=128,
        max_length=100,
        layer_norm_eps=1e-6,
        num_labels=7,
    )
    torch.manual_seed(0)
    theirs = ASTForAudioClassification(config).eval()
    state = theirs.state_dict()
    for tensor in state.values():
        tensor.normal_(std=0.1)
    ours = create("ast", n_mels=128, n_frames=100, n_classes=7, depth=3).eval()
    ours.trunk.load_state_dict(from_deit(state, n_frames=100, grid=(8, 6)))
    ours.norm.load_state_dict({part: state[f"classifier.layernorm.{part}"] for part in ("weight", "bias")})
    ours.output.load_state_dict({part: state[f"classifier.dense.{part}"] for part in ("weight", "bias")})
    x = torch.randn(2, 1, 128, 100)
    with torch.no_grad():
        wanted = theirs(x[:, 0].transpose(1, 2) / 2).logits  # half a deviation is 1
        torch.testing.assert_close(ours(x), wanted, rtol=1e-5, atol=1e-5)


def by_hand(grid: np.ndarray, n_f: int, n_t: int) -> np.ndarray:
    """Positions ``(rows, columns, width)`` resized value by value, time first."""

    def axis(table: np.ndarray, n: int) -> np.ndarray:
        old = len(table)
        if n <= old:
            return table[old // 2 - n // 2 :][:n]
        found = []
        for i in range(n):
            place = min(max((i + 0.5) * old / n - 0.5, 0), old - 1)
            low = int(place)
            high = min(low + 1, old - 1)
            found.append(table[low] * (1 - (place - low)) + table[high] * (place - low))
        return np.stack(found)

    return axis(axis(grid.swapaxes(0, 1), n_t).swapaxes(0, 1), n_f)


@pytest.mark.parametrize("grid", [(14, 14), (12, 101), (8, 206), (5, 3)])
@pytest.mark.parametrize(("n_f", "n_t"), [(8, 206), (8, 39), (8, 6), (20, 13), (14, 14), (1, 1), (5, 117)])
@pytest.mark.parametrize("special", [1, 2])
def test_positions_of_another_grid(grid: tuple[int, int], n_f: int, n_t: int, special: int) -> None:
    rng = np.random.default_rng(0)
    table = rng.normal(size=(1, special + grid[0] * grid[1], 4)).astype(np.float32)
    known = grid in ((14, 14), (12, 101))
    found = resize_positions(table, n_f, n_t, grid=None if known else grid).numpy()
    assert found.shape == (1, special + n_f * n_t, 4)
    assert np.array_equal(found[:, :special], table[:, :special])
    wanted = by_hand(table[0, special:].reshape(*grid, 4).astype(np.float64), n_f, n_t)
    np.testing.assert_allclose(found[0, special:].reshape(n_f, n_t, 4), wanted, rtol=0, atol=1e-6)


def test_positions_are_cut_from_the_middle() -> None:
    rows = torch.arange(14.0).repeat_interleave(14)
    table = torch.cat([torch.tensor([-1.0, -2.0]), rows])[None, :, None]
    found = resize_positions(table, 8, 14)
    assert found[0, :2, 0].tolist() == [-1, -2]
    assert found[0, 2::14, 0].tolist() == [3, 4, 5, 6, 7, 8, 9, 10]


def test_positions_of_no_grid_are_refused() -> None:
    with pytest.raises(ConfigError, match="1650 positions are no square"):
        resize_positions(torch.zeros(1, 1650, 4), 8, 20)
    with pytest.raises(ConfigError, match="198 positions are not 8 x 20"):
        resize_positions(torch.zeros(1, 198, 4), 8, 20, grid=(8, 20))


def test_weights_of_patches() -> None:
    rgb = np.random.default_rng(1).normal(size=(6, 3, 16, 16))
    np.testing.assert_allclose(patch_weight(rgb).numpy(), rgb.sum(axis=1, keepdims=True))
    np.testing.assert_allclose(patch_weight(rgb, how="mean").numpy(), rgb.sum(axis=1, keepdims=True) / 3)
    with pytest.raises(ConfigError, match="how='max'"):
        patch_weight(rgb, how="max")  # type: ignore[arg-type]


def deit_state(depth: int = 2, *, distilled: bool = True, width: int = 192) -> State:
    """Random weights under timm's names."""
    rng = torch.Generator().manual_seed(0)
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, 198 if distilled else 197, width),
        "patch_embed.proj.weight": (width, 3, 16, 16),
        "patch_embed.proj.bias": (width,),
        "norm.weight": (width,),
        "norm.bias": (width,),
        "head.weight": (1000, width),
        "head.bias": (1000,),
    }
    if distilled:
        shapes |= {"dist_token": (1, 1, width), "head_dist.weight": (1000, width), "head_dist.bias": (1000,)}
    for i in range(depth):
        for part, size in (("norm1", (width,)), ("norm2", (width,)), ("attn.qkv", (3 * width, width)),
                           ("attn.proj", (width, width)), ("mlp.fc1", (4 * width, width)),
                           ("mlp.fc2", (width, 4 * width))):  # fmt: skip
            shapes |= {f"blocks.{i}.{part}.weight": size, f"blocks.{i}.{part}.bias": size[:1]}
    return {name: torch.randn(shape, generator=rng) / 10 for name, shape in shapes.items()}


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_deit_from_a_file(ending: str, tmp_path: Path) -> None:
    state, path = deit_state(), tmp_path / f"deit.{ending}"
    if ending == "pth":
        torch.save({"model": state}, path)
    else:
        save_file(state, path)
    trunk = AstTrunk(128, 640, depth=2)
    trunk.load_state_dict(read_deit(path, n_frames=640), strict=True)
    own = trunk.state_dict()
    assert torch.equal(own["layers.1.attention.k_proj.weight"], state["blocks.1.attn.qkv.weight"][192:384])
    assert torch.equal(own["layers.0.attention.v_proj.bias"], state["blocks.0.attn.qkv.bias"][384:])
    assert torch.equal(own["embeddings.position_embeddings"], resize_positions(state["pos_embed"], 8, 40))
    wanted = state["patch_embed.proj.weight"].sum(dim=1, keepdim=True)
    torch.testing.assert_close(own["embeddings.patch_embeddings.projection.weight"], wanted)


def test_deit_without_distillation_token_says_so(caplog: pytest.LogCaptureFixture) -> None:
    state = deit_state(distilled=False)
    with caplog.at_level(logging.WARNING):
        found = from_deit(state, n_frames=320, where="deit.pth")
    assert "deit.pth has no distillation token" in caplog.text
    assert torch.equal(found["embeddings.distillation_token"], state["cls_token"])
    assert torch.equal(found["embeddings.position_embeddings"][:, 1], state["pos_embed"][:, 0])
    AstTrunk(128, 320, depth=2).load_state_dict(found, strict=True)


def test_ast_of_audioset_is_resized_from_its_own_grid() -> None:
    state = {f"module.v.{name}": tensor for name, tensor in deit_state().items()}
    state["module.v.pos_embed"] = torch.randn(1, 1214, 192)
    state["module.v.patch_embed.proj.weight"] = torch.randn(192, 1, 16, 16)
    state |= {"module.mlp_head.0.weight": torch.ones(192), "module.mlp_head.1.weight": torch.ones(527, 192)}
    found = from_deit(state, n_frames=1024)
    AstTrunk(128, 1024, depth=2).load_state_dict(found, strict=True)
    wanted = resize_positions(state["module.v.pos_embed"], 8, 64, grid=(12, 101))
    assert torch.equal(found["embeddings.position_embeddings"], wanted)
    patches = "embeddings.patch_embeddings.projection.weight"
    assert torch.equal(found[patches], state["module.v.patch_embed.proj.weight"])


def test_names_of_transformers_4() -> None:
    new = from_deit(deit_state(), n_frames=320)
    old = {}
    for name, tensor in new.items():
        for ours, theirs in (("q_proj", "attention.query"), ("k_proj", "attention.key"), ("v_proj", "attention.value"),
                             ("o_proj", "output.dense"), ("mlp.fc1", "intermediate.dense"),
                             ("mlp.fc2", "output.dense"), ("layers.", "encoder.layer.")):  # fmt: skip
            name = name.replace(ours, theirs)
        old[f"audio_spectrogram_transformer.{name}"] = tensor
    again = from_deit(old, n_frames=320, grid=(8, 20))
    assert set(again) == set(new)
    assert all(torch.equal(again[name], new[name]) for name in new)


def test_weights_that_do_not_fit_are_refused() -> None:
    state = deit_state()
    with pytest.raises(CheckpointError, match=r"the weights lack layers\.1\.mlp\.fc2\.bias"):
        from_deit({name: tensor for name, tensor in state.items() if name != "blocks.1.mlp.fc2.bias"})
    with pytest.raises(CheckpointError, match=r"blocks\.0\.attn\.gate\.weight belongs to neither"):
        from_deit({**state, "blocks.0.attn.gate.weight": torch.zeros(3)})
    with pytest.raises(CheckpointError, match=r"lack embeddings\.cls_token"):
        from_deit({name: tensor for name, tensor in state.items() if name != "cls_token"})
    with pytest.raises(CheckpointError, match=r"patches have shape \(192, 3, 8, 8\)"):
        from_deit({**state, "patch_embed.proj.weight": torch.zeros(192, 3, 8, 8)})


def test_other_lengths_are_read_at_their_own_length() -> None:
    torch.manual_seed(0)
    model = create("ast", n_frames=96, **SMALL).eval()
    table = model.trunk.embeddings.position_embeddings
    for n_frames in (32, 95, 320):
        other = create("ast", n_frames=n_frames, **SMALL).eval()
        state = model.state_dict()
        key = "trunk.embeddings.position_embeddings"
        state[key] = resize_positions(table.detach(), 2, n_frames // 16, grid=(2, 6))
        other.load_state_dict(state)
        x = torch.randn(2, 1, 32, n_frames)
        with torch.no_grad():
            torch.testing.assert_close(model(x), other(x), rtol=0, atol=1e-6)


def test_padding_of_clips_is_masked() -> None:
    torch.manual_seed(0)
    model, lengths = create("ast", n_frames=96, **SMALL).eval(), torch.tensor([40, 128, 96, 16])
    x = torch.randn(4, 1, 32, 128)
    with torch.no_grad():
        found = model(x, lengths)
        alone = torch.cat([model(clip[None, ..., :n]) for clip, n in zip(x, lengths.tolist(), strict=True)])
    torch.testing.assert_close(found, alone, rtol=0, atol=1e-5)


def test_small_pictures_are_refused() -> None:
    with pytest.raises(ConfigError, match="12 frames are too few for one patch of 16"):
        create("ast", n_frames=12, **SMALL)
    with pytest.raises(ConfigError, match="8 bands are too few"):
        create("ast", n_frames=32, **SMALL | {"n_mels": 8})
    model = create("ast", n_frames=32, **SMALL)
    with pytest.raises(ConfigError, match="15 frames are too few"):
        model(torch.zeros(1, 1, 32, 15))
    with pytest.raises(ConfigError, match="48 bands for a model of 2 x 16"):
        model(torch.zeros(1, 1, 48, 32))
    with pytest.raises(ConfigError, match="size='base' is none of tiny, small"):
        create("ast", n_frames=32, size="base", **SMALL)


def test_statistics_are_of_the_split_or_of_audioset() -> None:
    split, audioset = (create(name, n_frames=32, **SMALL) for name in ("ast", "ast-audioset"))
    assert (split.input_norm, audioset.input_norm) == ("global", "none")
    audioset.load_state_dict(split.state_dict())
    x = torch.randn(2, 1, 32, 32)
    raw = x * AUDIOSET_DEVIATION + AUDIOSET_MEAN
    with torch.no_grad():
        torch.testing.assert_close(audioset.eval()(raw), split.eval()(x), rtol=0, atol=1e-5)


def test_checkpointing_changes_no_gradient() -> None:
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        model = create("ast", n_frames=32, checkpointing=checkpointing, **SMALL).train()
        model(torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(1))).square().sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_standardised_pictures() -> None:
    x = torch.randn(3, 8, 20) * 7 + 2
    x[1] = 4.0
    x.requires_grad_()
    found = standardise_picture(x)
    assert found[1].abs().max() == 0
    for clip in (found[0], found[2]):
        assert float(clip.mean().detach()) == pytest.approx(0, abs=1e-6)
        assert float(clip.detach().std(correction=0)) == pytest.approx(0.5)
    found.square().sum().backward()
    assert torch.isfinite(x.grad).all()


def test_a_stored_picture_is_standardised_without_its_padding() -> None:
    torch.manual_seed(0)
    model = create("ast-gafx", n_frames=64, **SMALL).eval()
    clip = torch.randn(1, 1, 32, 32) * 3 + 40
    padded = torch.cat([clip, torch.full_like(clip, -7)], dim=3)
    picture = standardise_picture(padded[:, 0], torch.tensor([32]))
    torch.testing.assert_close(picture[..., :32], standardise_picture(clip[:, 0]))
    assert picture[..., 32:].abs().max() == 0
    with torch.no_grad():
        torch.testing.assert_close(model(padded, torch.tensor([32])), model(clip), rtol=0, atol=1e-5)
        torch.testing.assert_close(model(clip * 2 - 5), model(clip), rtol=0, atol=1e-5)
