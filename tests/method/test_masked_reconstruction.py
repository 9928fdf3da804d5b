"""Masked reconstruction: what is hidden, and what a training on it does."""

import pytest
import torch
from torch import Tensor

from asdpipe.method.masked_reconstruction import MaskedReconstruction
from asdpipe.method.objectives import Batch
from asdpipe.models.masked_audio_mae import MaskedAudioMae

SAMPLES = 8000
SIZE = {"frames": 48, "layers": 1, "width": 32, "heads": 2, "pooling": "mean"}
DECODER = {"decoder_layers": 1, "decoder_width": 32, "decoder_heads": 2}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch_of(x: Tensor) -> Batch:
    none = torch.zeros(len(x), dtype=torch.int64)
    return Batch(x, none, none)


def loss_of(objective: MaskedReconstruction, embed, x: Tensor, seed: int = 0) -> Tensor:
    (loss,) = objective.terms(embed, batch_of(x), generator(seed))
    return loss


@pytest.mark.parametrize(
    ("patches", "ratio", "hidden"), [(512, 0.8, 410), (10, 0.8, 8), (40, 0.75, 30), (8, 0.01, 1), (8, 0.99, 7)]
)
def test_a_share_of_every_clips_patches_is_hidden(patches, ratio, hidden):
    drawn = MaskedReconstruction(patches, mask_ratio=ratio).draw_hidden(5, generator())
    assert (drawn.shape, drawn.dtype) == ((5, patches), torch.bool)
    assert drawn.sum(dim=1).tolist() == [hidden] * 5


def test_patches_are_hidden_independently_of_each_other_and_of_other_clips():
    drawn = MaskedReconstruction(10, mask_ratio=0.3).draw_hidden(20_000, generator()).double()
    # Standard deviation of a mean of 20,000 draws with p = 0.3: 0.0032.
    torch.testing.assert_close(drawn.mean(dim=0), torch.full((10,), 0.3, dtype=torch.float64), atol=0.016, rtol=0)
    # Without replacement: 3/10 * 2/9 for every pair.
    pairs = drawn.T @ drawn / len(drawn)
    expected = torch.full((10, 10), 3 / 10 * 2 / 9, dtype=torch.float64).fill_diagonal_(0.3)
    torch.testing.assert_close(pairs, expected, atol=0.016, rtol=0)
    assert len(drawn[:100].unique(dim=0)) > 50


def test_the_loss_is_the_mean_squared_error_of_prediction_and_target():
    output = torch.randn(3, 2, 8, 256, generator=generator())
    seen = []

    def embed(x: Tensor, hidden: Tensor) -> Tensor:
        seen.append((x, hidden))
        return output

    x = torch.zeros(3, SAMPLES)
    objective = MaskedReconstruction(10, mask_ratio=0.8)
    loss = loss_of(objective, embed, x, seed=4)
    difference = (output[:, 0] - output[:, 1]).double().numpy()
    assert loss.item() == pytest.approx((difference**2).mean(), rel=1e-5)
    assert objective.names == ("reconstruction_loss",)
    assert seen[0][0] is x
    assert torch.equal(seen[0][1], objective.draw_hidden(3, generator(4)))
    # The mask moves to the device of the extractor there: its count must be known on the CPU.
    assert seen[0][1].device.type == "cpu"


def trained(steps: int) -> tuple[list[float], dict[str, Tensor]]:
    torch.manual_seed(0)
    model = MaskedAudioMae(SAMPLES, **SIZE, **DECODER)
    objective, rng = MaskedReconstruction(model.num_patches, mask_ratio=0.5), generator(1)
    x = torch.sin(torch.arange(SAMPLES) * torch.tensor([[0.1], [0.37]])).cumsum(1).sin()
    optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], lr=3e-3)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        (loss,) = objective.terms(model, batch_of(x), rng)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, model.state_dict()


def test_a_training_learns_a_tiny_batch_by_heart():
    losses, _ = trained(300)
    # Targets have variance 1: a prediction of nothing has the loss 1.
    assert losses[0] > 0.9
    assert sum(losses[-20:]) / 20 < 0.25


def test_equal_seeds_give_equal_trainings_bit_for_bit():
    (first, weights), (second, others) = trained(5), trained(5)
    assert first == second
    assert all(torch.equal(weights[name], others[name]) for name in weights)
