"""BEATs against SpeechBrain's port of the official code, with random weights."""

import pytest
import speechbrain.lobes.models.beats as official
import torch

from asdpipe.errors import UserError
from asdpipe.models.beats import Beats, buckets
from asdpipe.models.build import build_extractor, described_extractor
from asdpipe.models.lora import Lora

# "cfg" of the official checkpoints of BEATs_iter3, as far as it differs from the defaults.
PUBLISHED = {
    "deep_norm": True,
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "relative_position_embedding": True,
    "num_buckets": 320,
    "max_distance": 800,
    "gru_rel_pos": True,
    "layer_wise_gradient_decay_ratio": 0.6,
}
SMALL = {"layers": 3, "width": 32, "ffn": 48, "heads": 4, "patch_width": 24}
SMALL_OFFICIAL = {
    "encoder_layers": 3,
    "encoder_embed_dim": 32,
    "encoder_ffn_embed_dim": 48,
    "encoder_attention_heads": 4,
    "embed_dim": 24,
}
SECOND = 16_000


def noise(clips: int = 2, samples: int = SECOND) -> torch.Tensor:
    return 0.1 * torch.randn(clips, samples, generator=torch.Generator().manual_seed(0))


def official_network(**sizes) -> torch.nn.Module:
    """Return the other implementation with random weights; those that start as constants too."""
    torch.manual_seed(0)
    config = official.BEATsConfig({**PUBLISHED, **sizes})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(official, "BEATsConfig", lambda _: config)
        network = official.BEATs(freeze=False, output_all_hiddens=True).eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.dim() == 1 or "grep" in name or "relative" in name:
                parameter.add_(0.3 * torch.randn(parameter.shape))
    return network


def checkpoint_name(name: str) -> str:
    """Return the name of a weight in the checkpoints, which use an older weight norm of PyTorch."""
    return name.replace("parametrizations.weight.original0", "weight_g").replace(
        "parametrizations.weight.original1", "weight_v"
    )


def official_tensors(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {checkpoint_name(name): tensor for name, tensor in network.state_dict().items()}


def hidden_states(network: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Return the tokens before the first and after every block, float (1 + blocks, batch, tokens, width)."""
    return network.extract_features(x, torch.ones(len(x)))[0].transpose(1, 2)


def adopted(tensors, num_samples=SECOND, **arguments) -> Beats:
    extractor = Beats(num_samples, **arguments)
    extractor.load_state_dict(extractor.adopt(tensors))
    return extractor.eval()


def small(**arguments) -> Beats:
    torch.manual_seed(1)
    return Beats(**{"num_samples": SECOND, **SMALL, **arguments})


@pytest.fixture(scope="module")
def oracle():
    return official_network(**SMALL_OFFICIAL)


@torch.no_grad()
def test_an_official_checkpoint_of_full_size_loads_and_gives_the_official_tokens():
    oracle = official_network()
    tensors = official_tensors(oracle)
    assert len(tensors) == 250
    tensors |= {"predictor.weight": torch.zeros(527, 768), "predictor.bias": torch.zeros(527)}
    extractor = adopted(tensors)
    assert sum(parameter.numel() for parameter in extractor.parameters()) == 90_311_792
    x = noise(1)
    found = extractor.tokens(x)
    assert found.shape == (1, extractor.num_patches, 768)
    torch.testing.assert_close(found, hidden_states(oracle, x)[-1], atol=1e-5, rtol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("layer", [1, 2, 3, None])
def test_tokens_after_every_block_are_the_official_ones(oracle, layer):
    x = noise(samples=10 * SECOND)
    extractor = adopted(official_tensors(oracle), 10 * SECOND, **SMALL, layer=layer)
    assert extractor.num_patches == 62 * 8
    expected = hidden_states(oracle, x)[-1 if layer is None else layer]
    torch.testing.assert_close(extractor.tokens(x), expected, atol=1e-5, rtol=0)


def test_buckets_of_all_distances_are_the_official_ones():
    offsets = torch.arange(-2000, 2001)
    attention = official.MultiheadAttention(
        32, 4, self_attention=True, has_relative_attention_bias=True, num_buckets=320, max_distance=800
    )
    assert torch.equal(buckets(offsets), attention._relative_positions_bucket(offsets))


def test_gradients_decay_from_block_to_block_as_in_the_official_code(oracle):
    x, weights = noise(), torch.randn(2, 48, 32, generator=torch.Generator().manual_seed(3))
    oracle.zero_grad()
    (hidden_states(oracle, x)[-1] * weights).sum().backward()
    expected = {checkpoint_name(name): parameter.grad for name, parameter in oracle.named_parameters()}
    extractor = adopted(official_tensors(oracle), **SMALL, layer_decay=0.6)
    (extractor.tokens(x) * weights).sum().backward()
    for name, parameter in extractor.named_parameters():
        atol = 1e-5 * expected[name].abs().max().item() + 1e-6
        torch.testing.assert_close(parameter.grad, expected[name], atol=atol, rtol=1e-4)


def test_gradient_decay_scales_each_block_by_its_power():
    plain, decayed = small(layer_decay=1.0), small(layer_decay=0.5)
    for extractor in (plain, decayed):
        extractor(noise())[..., 0].sum().backward()
    # Powers of two: no rounding.
    powers = {"encoder.layers.2": 0, "encoder.layers.1": 1, "encoder.layers.0": 2, "patch_embedding": 3}
    for prefix, power in powers.items():
        for name, parameter in plain.named_parameters():
            if name.startswith(prefix) and "relative" not in name:
                assert torch.equal(decayed.get_parameter(name).grad, parameter.grad * 0.5**power), name


def test_checkpointing_changes_no_bit():
    plain, checkpointed = small(), small(checkpointing=True)
    outputs = [extractor(noise()) for extractor in (plain, checkpointed)]
    assert torch.equal(*outputs)
    for output in outputs:
        output.square().sum().backward()
    for name, parameter in plain.named_parameters():
        assert torch.equal(parameter.grad, checkpointed.get_parameter(name).grad), name


def test_layer_drop_depends_on_rng_alone_and_happens_in_training_alone():
    extractor, x = small(layer_drop=0.5), noise()
    drawn = []
    for seed in (0, 0, 1, 2, 3):
        # Another generator is of no consequence.
        torch.manual_seed(len(drawn))
        extractor.rng = torch.Generator().manual_seed(seed)
        drawn.append([extractor(x) for _ in range(4)])
    assert all(map(torch.equal, drawn[0], drawn[1]))
    assert len({output.sum().item() for outputs in drawn for output in outputs}) > 3
    assert torch.equal(extractor.eval()(x), small().eval()(x))


def test_the_share_of_dropped_blocks_is_the_probability():
    extractor = small(layer_drop=0.25)
    extractor.rng = torch.Generator().manual_seed(0)
    kept = torch.tensor([extractor.kept_blocks() for _ in range(4000)]).float()
    # Four standard errors of 4000 draws.
    torch.testing.assert_close(kept.mean(dim=0), torch.full((3,), 0.75), atol=0.028, rtol=0)


@torch.no_grad()
def test_a_dropped_block_hands_its_input_on():
    extractor, x = small(layer_drop=0.5), noise()
    extractor.kept_blocks = lambda: [True, False, True]
    without = small()
    del without.encoder.layers[1]
    assert torch.equal(extractor(x), without(x))


@torch.no_grad()
def test_embeddings_are_means_of_the_tokens():
    x = noise()
    per_band = small(pooling="band_mean")
    grid = per_band.tokens(x).reshape(2, 6, 8, 32)
    torch.testing.assert_close(per_band(x), torch.einsum("btfw->bfw", grid) / 6)
    torch.testing.assert_close(small()(x), torch.einsum("btfw->bw", grid)[:, None] / 48)
    assert (small().embedding_shape, per_band.embedding_shape) == ((1, 32), (8, 32))


@torch.no_grad()
def test_features_can_be_augmented():
    extractor, x = small(), noise()
    seen = []
    assert torch.equal(extractor(x, augment=lambda features: seen.append(features) or features), extractor(x))
    assert seen[0].shape == (2, 98, 128)
    # Normalised with mean and twice the deviation of AudioSet: silence is ln(2^-23) before.
    silence = extractor.features(torch.zeros(1, SECOND))
    torch.testing.assert_close(silence, torch.full((1, 98, 128), (-15.942385 - 15.41663) / (2 * 6.55582)))
    # Frames after the last whole patch do not matter.
    assert torch.equal(extractor(x, augment=lambda features: features[:, :96]), extractor(x))


def test_adapters_alone_train_and_are_saved(oracle):
    with torch.device("meta"):
        full_size = Beats(10 * SECOND, lora=Lora(rank=64, alpha=8.0))
    trained = [parameter for parameter in full_size.parameters() if parameter.requires_grad]
    assert sum(parameter.numel() for parameter in trained) == 2_359_296
    assert sum(tensor.numel() for tensor in full_size.saved_state().values()) == 2_359_296

    extractor, tensors = small(lora=Lora(rank=2, alpha=8.0)).eval(), official_tensors(oracle)
    base = extractor.adopt(tensors)
    assert base.keys() == extractor.state_dict().keys() - extractor.saved_state().keys()
    extractor.load_state_dict(base, strict=False)
    x = noise()
    assert torch.equal(extractor(x), adopted(tensors, **SMALL)(x))
    extractor(x).sum().backward()
    assert {name for name, parameter in extractor.named_parameters() if parameter.grad is not None} == {
        name for name, parameter in extractor.named_parameters() if parameter.requires_grad
    }


def test_without_adapters_everything_is_saved():
    extractor = small()
    assert extractor.saved_state().keys() == extractor.state_dict().keys()


@pytest.mark.parametrize("change", [lambda bias: bias + 1, lambda bias: bias[:7], lambda bias: bias.long()])
def test_a_checkpoint_whose_blocks_share_no_position_bias_keeps_tensors_that_are_unknown(oracle, change):
    tensors = official_tensors(oracle)
    name = "encoder.layers.1.self_attn.relative_attention_bias.weight"
    tensors[name] = change(tensors[name])
    assert small().adopt(tensors).keys() - small().state_dict().keys() == {name}


def test_random_weights_give_tokens_of_unit_variance_and_gradients_everywhere():
    extractor = small()
    embeddings = extractor.tokens(noise())
    torch.testing.assert_close(embeddings.var(dim=2, correction=0), torch.ones(2, 48), atol=1e-3, rtol=0)
    (embeddings * torch.randn(embeddings.shape)).sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in extractor.parameters())


SETTINGS = {"kind": "beats", **SMALL, "layer": None, "pooling": "mean", "lora": None}


def test_it_is_built_from_settings_and_switches_of_the_training():
    settings = {**SETTINGS, "lora": {"rank": 2, "alpha": 8.0}}
    built = build_extractor(settings, num_samples=SECOND, layer_drop=0.1, checkpointing=True, machines=["fan"])
    assert (built.layer_drop, built.checkpointing, built.layer_decay) == (0.1, True, 1.0)
    described = described_extractor(settings, num_samples=SECOND)
    assert {name: value.shape for name, value in described.state_dict().items()} == {
        name: value.shape for name, value in built.state_dict().items()
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer": 4}, "layer 4 does not exist: the network has 3"),
        ({"heads": 5}, "width 32 is not a multiple of 5 heads"),
        ({"width": 40}, "network.width: Input should be a multiple of 16"),
        ({"layers": 10**9}, "network.layers: Input should be less than or equal to 64"),
        ({"lora": {"rank": 0, "alpha": 1.0}}, "network.lora.rank: Input should be greater than or equal to 1"),
        ({"layer_drop": 0.5}, "network.layer_drop: Extra inputs are not permitted"),
    ],
)
def test_impossible_settings_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        build_extractor({**SETTINGS, **change}, num_samples=SECOND)


def test_clips_shorter_than_a_patch_are_refused_in_seconds():
    assert small(num_samples=2800).num_patches == 8
    with pytest.raises(UserError, match=r"clips of 0\.1 s are too short: .* needs 0\.175 s"):
        build_extractor(SETTINGS, num_samples=1600)
