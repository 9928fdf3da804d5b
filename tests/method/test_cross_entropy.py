"""Cross-entropy against scipy, and SpecAugment's masks."""

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from torch import Tensor

from asdpipe.method.cross_entropy import CrossEntropyObjective
from asdpipe.method.objectives import Batch
from asdpipe.method.spec_augment import spec_augment

LABEL = torch.tensor([0, 3, 1, 1, 2])
AUDIO_MAE = {"time_mask": 192, "frequency_mask": 48}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make(spec_augment: bool) -> CrossEntropyObjective:
    torch.manual_seed(0)
    return CrossEntropyObjective((2, 6), 4, spec_augment=spec_augment, **AUDIO_MAE)


def test_the_loss_is_the_cross_entropy_of_a_linear_classifier_with_bias():
    objective, x = make(False), torch.randn(5, 2, 6, generator=generator())
    (loss,) = objective.terms(lambda x: x, Batch(x, LABEL, LABEL), generator())
    weight, bias = (each.detach().double().numpy() for each in objective.classifier.parameters())
    logits = x.double().numpy().reshape(5, 12) @ weight.T + bias
    assert loss.item() == pytest.approx(-log_softmax(logits, axis=1)[np.arange(5), LABEL].mean(), rel=1e-5)
    loss.backward()
    assert all(each.grad.abs().sum() > 0 for each in objective.parameters())


def test_spec_augment_reaches_the_extractor_and_draws_from_the_given_generator():
    def embed(x: Tensor, augment) -> Tensor:
        seen.append(augment(torch.ones(5, 1024, 128)))
        return x

    seen: list[Tensor] = []
    for seed in (3, 3, 4):
        list(make(True).terms(embed, Batch(torch.zeros(5, 2, 6), LABEL, LABEL), generator(seed)))
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])
    assert torch.equal(seen[0], spec_augment(torch.ones(5, 1024, 128), **AUDIO_MAE, generator=generator(3)))


def spans(masked: np.ndarray) -> list[int]:
    """Return first and last index of the masked span, checking that it is one."""
    index = np.flatnonzero(masked)
    assert len(index) == 0 or len(index) == index[-1] - index[0] + 1
    return [len(index), *index[[0, -1]].tolist()] if len(index) else [0, 0, 0]


def test_masks_are_one_span_of_frames_and_one_of_bands_per_clip_of_the_documented_distribution():
    masked = spec_augment(torch.ones(3000, 300, 64), time_mask=100, frequency_mask=20, generator=generator()) == 0
    in_time, in_frequency = masked.all(dim=2).numpy(), masked.all(dim=1).numpy()
    assert torch.equal(masked, torch.from_numpy(in_time[:, :, None] | in_frequency[:, None, :]))
    for flags, size, widest in ((in_time, 300, 100), (in_frequency, 64, 20)):
        width, first, last = np.array([spans(each) for each in flags]).T
        # floor(U(0, widest)): 0 to widest - 1, of equal probability.
        counts = np.bincount(width, minlength=widest)
        assert len(counts) == widest
        assert width.mean() == pytest.approx((widest - 1) / 2, abs=4 * widest / np.sqrt(12 * 3000))
        assert last.max() < size
        some = width > 0
        share = (first[some] + 0.5) / (size - width[some])
        assert share.mean() == pytest.approx(0.5, abs=0.03)
        assert share.std() == pytest.approx(1 / np.sqrt(12), abs=0.02)


def test_other_values_stay_and_gradients_pass_outside_the_masks():
    fbank = torch.randn(4, 200, 32, generator=generator(1)).requires_grad_()
    augmented = spec_augment(fbank, time_mask=50, frequency_mask=8, generator=generator(2))
    kept = augmented != 0
    assert torch.equal(augmented[kept], fbank[kept])
    augmented.sum().backward()
    assert torch.equal(fbank.grad, kept.float())


def test_clips_shorter_than_the_widest_mask_are_never_masked_completely():
    masked = spec_augment(torch.ones(500, 30, 8), **AUDIO_MAE, generator=generator())
    assert masked.shape == (500, 30, 8)
    assert (masked.flatten(1).sum(dim=1) > 0).all()
