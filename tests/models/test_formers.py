"""SpectroFormer, TokenFormer, CodebookFormer: one trunk, three front ends."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from featstore.errors import ConfigError
from featstore.models.cost import count_macs, count_parameters
from featstore.models.spectroformer import CodebookFormer, SpectroFormer
from featstore.models.tokenformer import TokenFormer
from featstore.models.transformer_trunk import SIZES, Former, grouped
from featstore.training.config import OptimizerConfig
from featstore.training.optimizers import make_optimizer
from featstore.training.starting import layer_scales

VOCABULARY, WIDTH = 12, 6
NAMES = ("spectroformer", "tokenformer", "codebookformer")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def build(name: str, *, n_frames: int = 40, seed: int = 0, **settings) -> Former:
    torch.manual_seed(seed)
    common = {"n_frames": n_frames, "n_classes": 3, "size": "tiny", "group": 2} | settings
    if name == "tokenformer":
        return TokenFormer(TokenFormer.Config(n_codes=VOCABULARY, **common))
    if name == "codebookformer":
        return CodebookFormer(CodebookFormer.Config(n_dims=WIDTH, **common))
    return SpectroFormer(SpectroFormer.Config(n_mels=WIDTH, **common))


def batch(name: str, n: int = 4, n_frames: int = 40) -> torch.Tensor:
    rng = torch.Generator().manual_seed(1)
    if name == "tokenformer":
        return torch.randint(0, VOCABULARY, (n, 1, n_frames), generator=rng)
    shape = (n, 1, WIDTH, n_frames) if name == "spectroformer" else (n, WIDTH, n_frames)
    return torch.randn(shape, generator=rng)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("positions", ["sinusoidal", "learned", "rotary"])
@pytest.mark.parametrize("pool", ["mean", "mean_std", "layers", "attention", "cls"])
def test_a_track_scores_alone_as_in_a_padded_batch(name: str, positions: str, pool: str) -> None:
    model = build(name, positions=positions, pool=pool).eval()
    x, lengths = batch(name), [40, 31, 2, 20]
    with torch.no_grad():
        together = model(x, torch.tensor(lengths))
        alone = torch.cat([model(row[None, ..., :length]) for row, length in zip(x, lengths, strict=True)])
        assert together.isfinite().all()
        torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
        torch.testing.assert_close(torch.cat([model(row[None]) for row in x]), model(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("backend", ["MATH", "FLASH_ATTENTION", "EFFICIENT_ATTENTION", "CUDNN_ATTENTION"])
@pytest.mark.parametrize("pool", ["mean", "attention", "cls"])
def test_a_row_that_is_all_padding_gives_no_nan_and_no_gradient_of_nan(name: str, backend: str, pool: str) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with sdpa_kernel(SDPBackend.__members__[backend]):
        try:
            tiny = torch.zeros(1, 1, 2, 8, device=device)
            functional.scaled_dot_product_attention(tiny, tiny, tiny, attn_mask=torch.ones(2, 2, device=device).bool())
        except RuntimeError as error:
            pytest.skip(f"{backend} does not run on {device} here: {str(error).splitlines()[0]}")
        model = build(name, dropout=0.0, head_dropout=0.0, pool=pool).to(device)
        lengths, x = torch.tensor([40, 0, 1, 20]), batch(name).to(device)
        logits = model(x, lengths.to(device))
        logits[[0, 3]].square().sum().backward()
        everything = torch.ones(4, 20, dtype=torch.bool, device=device)
        assert model.encode(x, lengths.to(device), everything).isfinite().all()  # all padded or all hidden
    assert logits.isfinite().all()
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in model.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_all_positions_may_be_hidden(name: str) -> None:
    model = build(name).eval()
    x = batch(name)
    hidden = torch.ones(4, 20, dtype=torch.bool)
    with torch.no_grad():
        found = model.encode(x, hidden=hidden)
        torch.testing.assert_close(found, model.encode(x.flip(0), hidden=hidden))  # nothing of the input is left
    assert found.shape == (4, 64, 20) and found.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_what_is_hidden_cannot_be_read_from_the_input(name: str) -> None:
    model = build(name).eval()
    x, hidden = batch(name), torch.zeros(4, 20, dtype=torch.bool)
    hidden[:, 5:9] = True
    other = x.clone()
    other[..., 10:18] = x[..., 10:18].flip(0)
    with torch.no_grad():
        assert torch.equal(model.encode(x, hidden=hidden), model.encode(other, hidden=hidden))
        assert not torch.equal(model.encode(x), model.encode(other))


@pytest.mark.parametrize("group", [1, 4])
@pytest.mark.parametrize("books", [1, 2])
def test_with_tables_made_of_the_codebook_both_token_models_are_one(group: int, books: int) -> None:
    torch.manual_seed(3)
    sizes = {"n_frames": 32, "n_classes": 3, "size": "tiny", "group": group}
    codes = CodebookFormer(CodebookFormer.Config(n_dims=books * WIDTH, **sizes)).eval()
    tokens = TokenFormer(TokenFormer.Config(n_codes=VOCABULARY, n_codebooks=books, **sizes)).eval()
    shared = {
        name: value
        for name, value in codes.state_dict().items()
        if name not in ("front.map.weight", "front.map.bias", "front.mask")
    }
    assert tokens.load_state_dict(shared, strict=False).missing_keys == ["front.tables.weight"]
    codebook = torch.randn(books, VOCABULARY, WIDTH)
    maps = codes.front.map.weight.reshape(-1, group, books, WIDTH)
    with torch.no_grad():
        nn.init.normal_(codes.front.map.bias)
        share = codes.front.map.bias / (group * books)
        tokens.tables()[:, :, :VOCABULARY] = torch.einsum("dgbw,bvw->gbvd", maps, codebook) + share
        tokens.tables()[:, :, VOCABULARY + 1] = codes.front.mask / (group * books)
        ids = torch.randint(0, VOCABULARY, (4, books, 32))
        vectors = torch.cat([codebook[b][ids[:, b]].transpose(1, 2) for b in range(books)], dim=1)
        torch.testing.assert_close(tokens(ids), codes(vectors), rtol=0, atol=1e-5)
        hidden = torch.rand(4, 32 // group) < 0.3
        torch.testing.assert_close(
            tokens.encode(ids, hidden=hidden), codes.encode(vectors, hidden=hidden), rtol=0, atol=1e-5
        )


@pytest.mark.parametrize(
    ("size", "layers_only"), [("tiny", 99_968), ("small", 1_779_456), ("mam", 21_263_616), ("base", 85_054_464)]
)
def test_parameters_and_cost_follow_from_width_and_layers(size: str, layers_only: int) -> None:
    d, n = SIZES[size].width, SIZES[size].layers
    assert layers_only == n * (12 * d * d + 13 * d)
    positions, mels = 16, 64
    with torch.device("meta"):
        model = SpectroFormer(SpectroFormer.Config(n_mels=mels, n_frames=4 * positions, n_classes=16, size=size))
        tokens = TokenFormer(TokenFormer.Config(n_codes=2048, n_frames=4 * positions, n_classes=16, size=size))
    assert sum(p.numel() for p in model.layers.parameters()) == layers_only
    norms, head = 2 * 2 * d, 16 * d + 16
    assert count_parameters(model)[0] == layers_only + norms + head + (4 * mels + 2) * d
    assert count_parameters(tokens)[0] == layers_only + norms + head + 4 * 2050 * d
    maps, attention = n * 12 * d * d * positions, n * 2 * d * positions**2
    assert count_macs(model, (1, 1, mels, 4 * positions)) == maps + attention + 4 * mels * d * positions + 16 * d


def test_attention_has_no_dropout_which_costs_a_cpu_four_times_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    plain = functional.scaled_dot_product_attention

    def noted(*args, **settings):
        seen.append(settings)
        return plain(*args, **settings)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", noted)
    build("spectroformer", dropout=0.5).train()(batch("spectroformer"))
    assert len(seen) == 2 and all(not each.get("dropout_p") and each["attn_mask"] is None for each in seen)


def test_groups_keep_order_and_drop_what_fills_none() -> None:
    x = torch.arange(14).reshape(1, 2, 7)
    assert grouped(x, 3).tolist() == [[[[0, 7], [1, 8], [2, 9]], [[3, 10], [4, 11], [5, 12]]]]


@pytest.mark.parametrize("name", NAMES)
def test_an_input_shorter_than_a_group_is_refused(name: str) -> None:
    model = build(name, group=4)
    with pytest.raises(ConfigError, match=r"3 frames are fewer than one group of 4 \[" + name):
        model(batch(name, n_frames=3))
    with pytest.raises(ConfigError, match="fewer than one group"):
        build(name, group=8, n_frames=7)


def test_settings_that_cannot_be() -> None:
    for change, message in (
        ({"size": "huge"}, "size='huge' is none of tiny, small, mam, base"),
        ({"positions": "none"}, "positions='none'"),
        ({"pool": "max"}, "pool='max'"),
        ({"dropout": 1.0}, r"dropout=1.0 is not in \[0, 1\)"),
        ({"group": 0}, "group=0 is not a positive whole number"),
    ):
        with pytest.raises(ConfigError, match=message):
            build("spectroformer", **change)
    longer = build("spectroformer", positions="learned", n_frames=20)
    with pytest.raises(ConfigError, match="20 positions for a table of 10"):
        longer(batch("spectroformer"))


@pytest.mark.parametrize("name", NAMES)
def test_eight_clips_are_learnt_by_heart(name: str) -> None:
    torch.manual_seed(0)
    model = build(name, dropout=0.0, head_dropout=0.0)
    x, target = batch(name, n=8), torch.arange(8) % 3
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(40):
        optimizer.zero_grad()
        functional.cross_entropy(model(x), target).backward()
        optimizer.step()
    assert torch.equal(model.eval()(x).argmax(dim=1), target)


def test_rates_fall_from_layer_to_layer_also_where_weights_are_shared_or_lie_bare() -> None:
    """Tied weights have the rate of where they enter, and stand once in the optimizer; what has no block is first."""
    model = build("tokenformer", pool="cls")
    model.layers[1].inner.weight = model.layers[0].inner.weight
    scales = layer_scales(model, 0.5)
    assert "layers.1.inner.weight" not in scales
    # from the head down: norm, layer 1, layer 0, front
    assert (scales["norm.weight"], scales["layers.1.outer.weight"]) == (0.5, 0.25)
    assert (scales["layers.0.inner.weight"], scales["front.tables.weight"], scales["summary"]) == (
        0.125,
        0.0625,
        0.0625,
    )
    names = {name for name, _ in model.named_parameters()}
    optimizer = make_optimizer(model.named_parameters(), OptimizerConfig(name="adamw"), trunk=names, scales=scales)
    members = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    assert len(members) == len({id(each) for each in members}) == len(list(model.parameters()))


def test_an_embedding_that_no_input_uses_stays_as_it_is() -> None:
    """The symbol of hidden positions has no part in fine-tuning; it must not decay away, nor wander by momentum."""
    model = build("codebookformer", dropout=0.0)
    scales = layer_scales(model, 0.5)
    settings = OptimizerConfig(name="adamw", learning_rate=0.1, weight_decay=0.5)
    names = {name for name, _ in model.named_parameters()}
    optimizer = make_optimizer(model.named_parameters(), settings, trunk=names, scales=scales)
    before = model.front.mask.detach().clone()
    for _ in range(3):
        optimizer.zero_grad(set_to_none=True)
        model(batch("codebookformer")).square().sum().backward()
        optimizer.step()
    assert torch.equal(model.front.mask, before)


@pytest.mark.parametrize("name", NAMES)
def test_attention_over_positions_starts_as_their_mean(name: str) -> None:
    plain, learned = build(name, pool="mean").eval(), build(name, pool="attention").eval()
    learned.load_state_dict(plain.state_dict(), strict=False)
    lengths = torch.tensor([40, 31, 0, 20])
    with torch.no_grad():
        torch.testing.assert_close(learned(batch(name), lengths), plain(batch(name), lengths))
        learned.scores.weight.normal_()
        changed = learned(batch(name), lengths)
    assert changed.isfinite().all() and not torch.allclose(changed[0], plain(batch(name), lengths)[0])


@pytest.mark.parametrize("name", NAMES)
def test_a_position_of_its_own_gathers_the_others_and_is_no_part_of_what_is_predicted(name: str) -> None:
    model = build(name, pool="cls").eval()
    x = batch(name)
    with torch.no_grad():
        assert model.encode(x).shape == (4, 64, 20)
        assert model.inner_values(x, ["0", "2"])["2"].shape == (4, 64, 20)
        first = model.forward_features(x)
        assert not torch.allclose(first, model.forward_features(x.flip(0)))  # it sees the input
        model.summary.add_(1.0)
        assert not torch.allclose(first, model.forward_features(x))
