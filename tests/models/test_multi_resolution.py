"""The network against published counts and against a plain numpy forward pass written from the specification."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from asdpipe.config.networks import MultiResolution
from asdpipe.method.losses import SubspaceLoss
from asdpipe.models.multi_resolution import (
    DFTBranch,
    MultiResolutionNetwork,
    ResidualBlock,
    SqueezeExcite,
    STFTBranch,
    dft_output_length,
)

RATE = 16_000
KERNELS, STRIDES = (256, 64, 16), (64, 32, 4)
# The last convolution needs 16 steps, so the second 64 + 15 * 32 = 544, so the first 256 + 543 * 64 = 35008 bins,
# which a signal of 2 * 35007 samples has.
SHORTEST = 70_014


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def randomise(module: nn.Module, seed: int = 0) -> nn.Module:
    """Give every weight and every running statistic a value of its own, so that no operation is an identity."""
    generator = torch.Generator().manual_seed(seed)
    for each in module.modules():
        if isinstance(each, nn.BatchNorm1d | nn.BatchNorm2d):
            each.running_mean.normal_(0, 0.3, generator=generator)
            each.running_var.uniform_(0.5, 2, generator=generator)
            each.weight.data.uniform_(0.5, 1.5, generator=generator)
            each.bias.data.normal_(0, 0.3, generator=generator)
    return module.eval()


# ---------------------------------------------------------------- plain numpy versions of the specification


def array(x: torch.Tensor) -> np.ndarray:
    return x.detach().double().numpy()


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def conv(x: np.ndarray, weight: torch.Tensor, stride: int, padding: int = 0) -> np.ndarray:
    """Cross-correlate (channels, height, width), output position by output position."""
    kernel = array(weight)
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding)))
    height, width = kernel.shape[2:]
    rows, columns = (x.shape[1] - height) // stride + 1, (x.shape[2] - width) // stride + 1
    out = np.zeros((len(kernel), rows, columns))
    for i in range(rows):
        for j in range(columns):
            patch = x[:, i * stride : i * stride + height, j * stride : j * stride + width]
            out[:, i, j] = np.tensordot(kernel, patch, axes=3)
    return out


def conv1d(x: np.ndarray, weight: torch.Tensor, stride: int) -> np.ndarray:
    kernel = array(weight)
    starts = range(0, x.shape[1] - kernel.shape[2] + 1, stride)
    return np.stack([np.tensordot(kernel, x[:, i : i + kernel.shape[2]], axes=2) for i in starts], axis=1)


def max_pool(x: np.ndarray, padding: int) -> np.ndarray:
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding)), constant_values=-np.inf)
    rows, columns = (x.shape[1] - 3) // 2 + 1, (x.shape[2] - 3) // 2 + 1
    out = np.zeros((len(x), rows, columns))
    for i in range(rows):
        for j in range(columns):
            out[:, i, j] = x[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3].max(axis=(1, 2))
    return out


def batch_norm(x: np.ndarray, norm: nn.BatchNorm1d | nn.BatchNorm2d) -> np.ndarray:
    shape = (-1,) + (1,) * (x.ndim - 1)
    mean, var, gain, shift = (
        array(each).reshape(shape) for each in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    return (x - mean) / np.sqrt(var + 1e-5) * gain + shift


def squeeze_excite(x: np.ndarray, module: SqueezeExcite) -> np.ndarray:
    out = np.empty_like(x)
    hidden = relu(array(module.down.weight) @ np.array([channel.mean() for channel in x]))
    for channel, gate in enumerate(array(module.up.weight) @ hidden):
        out[channel] = x[channel] / (1 + math.exp(-gate))
    return out


def residual(x: np.ndarray, block: ResidualBlock, stride: int) -> np.ndarray:
    x = batch_norm(x, block.norm)
    _, first, norm, _, second, gate = block.branch
    branch = relu(batch_norm(conv(relu(x), first.weight, stride, padding=1), norm))
    branch = squeeze_excite(conv(branch, second.weight, 1, padding=1), gate)
    skip = x if stride == 1 else conv(max_pool(x, padding=1), block.skip[1].weight, 1)
    return skip + branch


def spectrogram(x: np.ndarray, size: int) -> np.ndarray:
    """Magnitudes (bins from 200 to 8000 Hz, frames)."""
    window = np.array([0.5 - 0.5 * math.cos(2 * math.pi * n / size) for n in range(size)])
    padded = np.concatenate([x[size // 2 : 0 : -1], x, x[-2 : -size // 2 - 2 : -1]])
    frames = [padded[start : start + size] for start in range(0, len(padded) - size + 1, size // 2)]
    magnitude = np.abs(np.fft.rfft(np.array(frames) * window, axis=1)) / math.sqrt((window**2).sum())
    frequency = np.arange(size // 2 + 1) * RATE / size
    return magnitude[:, (frequency >= 200) & (frequency <= 8000)].T


# ---------------------------------------------------------------- counts of the paper-size network


@pytest.mark.parametrize(("seconds", "count"), [(18, 4_158_520), (10, 4_027_448), (6, 3_961_912)])
def test_full_network_has_the_published_number_of_parameters(seconds, count):
    with torch.device("meta"):
        network = MultiResolutionNetwork(
            seconds * RATE, width=128, windows=(4096, 128), f_min=200.0, dft_kernels=KERNELS, dft_strides=STRIDES
        )
    assert sum(each.numel() for each in network.parameters()) == count


@pytest.mark.parametrize(("seconds", "gflop"), [(18, 2.853), (10, 1.584), (6, 0.948)])
def test_full_network_costs_the_published_flop_per_clip_and_gives_three_128d_embeddings(seconds, gflop):
    network = MultiResolutionNetwork(seconds * RATE).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        embedding = network(noise(1, seconds * RATE))
    assert counter.get_total_flops() / 1e9 == pytest.approx(gflop, abs=5e-4)
    assert embedding.shape == (1, 3, 128)


def test_default_settings_of_the_config_are_those_of_the_paper():
    settings = MultiResolution()
    assert (settings.width, settings.windows, settings.f_min) == (128, (4096, 128), 200.0)
    assert (settings.dft_kernels, settings.dft_strides) == (KERNELS, STRIDES)


@pytest.mark.parametrize(("window", "bins"), [(4096, 1997), (128, 63), (1024, 500)])
def test_stft_branch_keeps_the_bins_from_200_to_8000_hz(window, bins):
    # 1024: 200 Hz lies between bins 12 (187.5 Hz) and 13 (203.125 Hz), so 13..512 stay.
    branch = STFTBranch(3 * RATE, window, width=16, f_min=200.0)
    frames = 3 * RATE // (window // 2) + 1
    assert branch.spectrogram(noise(1, 3 * RATE)).shape == (1, frames, bins)


def test_a_bin_that_lies_exactly_at_f_min_is_kept():
    # Bins of a 160-sample window are 100 Hz apart: 200, 300, ..., 8000 Hz are 79 bins.
    assert STFTBranch(RATE, 160, width=16, f_min=200.0).spectrogram(noise(1, RATE)).shape[2] == 79


def test_no_convolution_and_no_linear_layer_has_a_bias():
    layers = [
        each
        for each in MultiResolutionNetwork(6 * RATE).modules()
        if isinstance(each, nn.Conv1d | nn.Conv2d | nn.Linear)
    ]
    # DFT branch: 3 convolutions with 2 SE layers each, 6 linear. Either STFT branch: the stem, 8 blocks with 2
    # convolutions and 2 SE layers, 3 skips, 1 linear.
    assert len(layers) == 3 * 3 + 6 + 2 * (1 + 8 * 4 + 3 + 1)
    assert all(each.bias is None for each in layers)


# ---------------------------------------------------------------- values


@pytest.mark.parametrize("window", [4096, 128])
def test_spectrogram_equals_a_numpy_stft(window):
    x = noise(2, 20_500) * 0.1
    branch = STFTBranch(30_000, window, width=16, f_min=200.0)
    ours = array(branch.spectrogram(x))
    for clip in range(2):
        np.testing.assert_allclose(ours[clip].T, spectrogram(array(x[clip]), window), atol=1e-5)


def test_a_tone_peaks_in_the_bin_of_its_frequency_at_the_height_that_the_window_gives():
    # Amplitude A in the middle of a bin: A/2 * sum(w) / sqrt(sum(w^2)) = A/2 * N/2 / sqrt(3N/8).
    size, step = 4096, 300
    x = 0.5 * torch.sin(2 * math.pi * step * RATE / size * torch.arange(40_000, dtype=torch.float64) / RATE).float()
    frame = STFTBranch(40_000, size, width=16, f_min=200.0).spectrogram(x[None])[0, 8]
    assert int(frame.argmax()) == step - 52
    assert float(frame.max()) == pytest.approx(0.25 * size / 2 / math.sqrt(3 * size / 8), rel=1e-4)


@pytest.mark.parametrize(("channels", "axes"), [(32, (5,)), (16, (4, 3)), (8, (6,))])
def test_squeeze_excite_gates_channels_by_their_means(channels, axes):
    module = SqueezeExcite(channels)
    assert module.down.weight.shape[0] == max(1, channels // 16)
    x = noise(2, channels, *axes)
    ours = array(module(x))
    for clip in range(2):
        np.testing.assert_allclose(ours[clip], squeeze_excite(array(x[clip]), module), atol=1e-6)


def test_squeeze_excite_does_the_same_in_channels_last_forth_and_back():
    module = SqueezeExcite(16)
    x = noise(2, 16, 5, 3)
    plain, last = x.clone().requires_grad_(), x.contiguous(memory_format=torch.channels_last).requires_grad_()
    weight = noise(2, 16, 5, 3)
    for each in (plain, last):
        (module(each) * weight).sum().backward()
    torch.testing.assert_close(module(last), module(plain))
    torch.testing.assert_close(last.grad, plain.grad)
    assert last.grad.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("into", "out", "stride"), [(4, 4, 1), (4, 8, 2)])
def test_residual_block_equals_a_numpy_version(into, out, stride):
    block = randomise(ResidualBlock(into, out, stride))
    x = noise(2, into, 9, 8)
    ours = array(block(x))
    for clip in range(2):
        np.testing.assert_allclose(ours[clip], residual(array(x[clip]), block, stride), atol=1e-5)


def test_residual_block_whose_branch_is_silent_returns_the_normalised_input():
    block = ResidualBlock(3, 3, 1)
    nn.init.zeros_(block.branch[4].weight)
    x = 5 + 3 * noise(4, 3, 6, 6)
    expected = (x - x.mean(dim=(0, 2, 3), keepdim=True)) / x.std(dim=(0, 2, 3), keepdim=True, correction=0)
    torch.testing.assert_close(block(x), expected, atol=1e-4, rtol=1e-4)


def test_dft_branch_equals_a_numpy_version():
    samples, width, kernels, strides = 2000, 16, (16, 8, 4), (8, 4, 2)
    branch = randomise(DFTBranch(samples, width, kernels, strides))
    x = noise(2, samples)
    ours = array(branch(x))
    for clip in range(2):
        value = np.abs(np.fft.rfft(array(x[clip])))[None]
        for layer, stride in enumerate(strides):
            convolution, _, gate = branch.convolutions[3 * layer : 3 * layer + 3]
            value = squeeze_excite(relu(conv1d(value, convolution.weight, stride)), gate)
        value = value.reshape(-1)
        for layer in range(5):
            linear, norm, _ = branch.linears[3 * layer : 3 * layer + 3]
            value = relu(batch_norm(array(linear.weight) @ value, norm))
        np.testing.assert_allclose(ours[clip], array(branch.linears[15].weight) @ value, rtol=1e-3, atol=1e-4)


def test_stft_branch_equals_a_numpy_version():
    samples, window, width = 3000, 128, 16
    branch = randomise(STFTBranch(samples, window, width, 200.0))
    x = noise(2, samples)
    ours = array(branch(x))
    for clip in range(2):
        value = batch_norm(spectrogram(array(x[clip]), window), branch.frequency_norm)
        convolution, norm = branch.stem[:2]
        value = max_pool(relu(batch_norm(conv(value.T[None], convolution.weight, 2), norm)), padding=0)
        for number, block in enumerate(branch.blocks):
            value = residual(value, block, 2 if number in (2, 4, 6) else 1)
        assert len(value) == width
        value = batch_norm(value.max(axis=1).reshape(-1), branch.head[0])
        np.testing.assert_allclose(ours[clip], array(branch.head[1].weight) @ value, rtol=1e-3, atol=1e-4)


def test_embeddings_are_stacked_in_the_order_dft_then_windows():
    network = MultiResolutionNetwork(
        16_000, width=16, windows=(1024, 128), dft_kernels=(64, 16, 4), dft_strides=(16, 8, 2)
    ).eval()
    x = noise(2, 16_000)
    embedding = network(x)
    assert embedding.shape == (2, 3, 16)
    assert [type(each) for each in network.branches] == [DFTBranch, STFTBranch, STFTBranch]
    assert [each.size for each in network.branches[1:]] == [1024, 128]
    for number, branch in enumerate(network.branches):
        torch.testing.assert_close(embedding[:, number], branch(x), rtol=0, atol=0)


def test_eval_mode_is_deterministic_and_clip_by_clip_but_train_mode_is_not():
    network = MultiResolutionNetwork(
        16_000, width=16, windows=(1024, 128), dft_kernels=(64, 16, 4), dft_strides=(16, 8, 2)
    )
    randomise(network)
    x = noise(4, 16_000)
    together = network(x)
    assert torch.equal(network(x), together)
    torch.testing.assert_close(network(x[:1])[0], together[0], rtol=1e-4, atol=1e-4)
    network.train()
    assert not torch.allclose(network(x)[0], network(torch.cat([x[:1], 3 * x[1:]]))[0], rtol=1e-3, atol=1e-3)


# ---------------------------------------------------------------- lengths


@pytest.mark.parametrize("samples", [1, 511, 3 * RATE, SHORTEST - 1, SHORTEST, 78_399, 78_400, 6 * RATE, 18 * RATE])
@pytest.mark.parametrize(
    ("kernels", "strides"), [(KERNELS, STRIDES), ((64, 16, 4), (16, 8, 2)), ((5, 4, 3), (1, 1, 1))]
)
def test_config_and_network_count_the_dft_steps_as_sliding_the_kernels(samples, kernels, strides):
    steps = samples // 2 + 1
    for kernel, stride in zip(kernels, strides, strict=True):
        steps = len(range(0, steps - kernel + 1, stride))
    assert max(dft_output_length(samples, kernels, strides), 0) == steps
    misfit = MultiResolution(dft_kernels=kernels, dft_strides=strides).misfit(samples)
    assert (misfit == "") == (steps > 0)


def test_dft_steps_equal_what_the_convolutions_leave():
    branch = DFTBranch(6 * RATE, 16, KERNELS, STRIDES)
    spectrum = torch.zeros(1, 1, 6 * RATE // 2 + 1)
    assert branch.convolutions(spectrum).shape[2] == dft_output_length(6 * RATE, KERNELS, STRIDES) == 2


def test_signals_from_4_9_s_on_fit_the_full_network():
    assert MultiResolutionNetwork(round(4.9 * RATE), width=16).eval()(noise(1, round(4.9 * RATE))).shape == (1, 3, 16)


def test_shortest_signal_of_the_full_network_works_and_one_sample_less_is_an_error():
    assert DFTBranch(SHORTEST, 16, KERNELS, STRIDES).eval()(noise(1, SHORTEST)).shape == (1, 16)
    with pytest.raises(ValueError, match="too short"):
        MultiResolutionNetwork(SHORTEST - 1)


def test_shortest_signal_of_an_stft_branch_works_and_one_sample_less_is_an_error():
    # The stem needs 11 frames: 3 after the 7-kernel, 1 after the pool. Hop 512: 10 * 512 samples have 11 frames.
    assert STFTBranch(5120, 1024, 16, 200.0).eval()(noise(1, 5120)).shape == (1, 16)
    with pytest.raises(ValueError, match="too few STFT frames"):
        STFTBranch(5119, 1024, 16, 200.0)


# ---------------------------------------------------------------- training


def test_training_in_float32_agrees_with_float64_for_many_frames():
    """With sums in float32 over the 350,000 rows of the stem, embeddings would be 2e-5 off."""
    torch.manual_seed(0)
    single = STFTBranch(4 * RATE, 128, width=16, f_min=200.0)
    double = copy.deepcopy(single).double()
    x = noise(24, 4 * RATE) * torch.linspace(0.1, 1, 24)[:, None]
    ours, exact = single(x), double(x.double())
    assert float(((ours - exact).abs().max() / exact.abs().max()).detach()) < 1e-5
    for (name, value), expected in zip(single.named_buffers(), double.buffers(), strict=True):
        scale = expected.double().abs().max().clamp(min=0.01)
        assert float((value - expected).abs().max() / scale) < 1e-5, name


@pytest.mark.parametrize("width", [16, 128])
def test_everything_after_the_stem_has_its_channels_last_in_memory(width):
    branch, formats = STFTBranch(RATE, 128, width, 200.0), []
    for block in branch.blocks:
        block.register_forward_hook(
            lambda _, __, out: formats.append(out.is_contiguous(memory_format=torch.channels_last))
        )
    branch(noise(2, RATE))
    assert formats == [True] * 8


def test_one_optimiser_step_of_the_full_network_at_18_s_changes_the_weights():
    torch.manual_seed(0)
    network = MultiResolutionNetwork(18 * RATE)
    loss = SubspaceLoss(3, 128, num_classes=16, subclusters=16, adaptive=False)
    named = {**dict(network.named_parameters()), **dict(loss.named_parameters())}
    before = {name: each.detach().clone() for name, each in named.items()}
    centres = loss.concatenated.weight.clone()
    # Without weight decay a weight moves only along its gradient.
    optimizer = torch.optim.AdamW(named.values(), lr=1e-3, weight_decay=0)
    value = loss(network(noise(3, 18 * RATE) * 0.1), torch.eye(16)[[0, 5, 15]])
    value.backward()
    optimizer.step()
    assert math.isfinite(value.item())
    assert all(torch.isfinite(each.grad).all() for each in named.values())
    # A gate with 16 channels squeezes to one hidden unit; where its ReLU is off for all clips, it gets no gradient.
    still = {name for name, each in named.items() if torch.equal(each, before[name])}
    gates = {name for name in named if name.endswith(("down.weight", "up.weight"))}
    assert still < gates
    assert torch.equal(loss.concatenated.weight, centres)


def test_a_window_longer_than_the_signal_is_refused_before_it_takes_memory():
    with pytest.raises(ValueError, match="too few STFT frames"):
        MultiResolutionNetwork(16_000, 8, (2**40,), 200.0, (32, 16, 8), (16, 8, 4))
