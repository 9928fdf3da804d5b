"""One forward pass over the views of a batch against one pass per view."""

from collections.abc import Iterator
from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from asdpipe.config.losses import Subspace, Triplet
from asdpipe.method.objectives import Batch, Objective, Sum
from asdpipe.models.multi_resolution import MultiResolutionNetwork
from asdpipe.training import forward
from asdpipe.training.fit import Step, fit
from asdpipe.training.forward import Forward

SAMPLES, CLASSES = 5000, 4


@pytest.fixture(params=[1, 2])
def threads(request) -> Iterator[None]:
    """Run with one thread, and with branches in two."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def network() -> MultiResolutionNetwork:
    torch.manual_seed(0)
    return MultiResolutionNetwork(SAMPLES, 16, (256, 64), 200.0, (32, 8, 4), (8, 4, 2))


class Counting(Forward):
    """Counts forward passes by their number of views; ``apart``: one view each."""

    def __init__(self, *arguments, apart: bool, **options) -> None:
        super().__init__(*arguments, **options)
        self.apart, self.passes = apart, []

    def __call__(self, x: Tensor, **options: object) -> Tensor:
        self.passes.append(len(x))
        return super().__call__(x, **options)

    def joins(self, x: Tensor) -> bool:
        return not self.apart and super().joins(x)


class Trained(NamedTuple):
    """What some steps came to."""

    losses: Tensor
    gradients: Tensor
    """Of the last step, in one row."""
    state: dict[str, Tensor]
    drawn: Tensor
    """The next random number."""
    passes: list[int]
    """Clips of every forward pass."""


def steps(objectives: list, machine: list[int], *, apart: bool, count: int = 1) -> Trained:
    extractor = network().double().train()
    context = {"embedding_shape": (3, 16), "num_classes": CLASSES}
    built = [each.build(**context) if isinstance(each, Subspace) else each for each in objectives]
    objective = Sum(built)
    rng, index = torch.Generator().manual_seed(3), torch.tensor(machine)
    x = 0.1 * torch.randn(count, len(machine), SAMPLES, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    embed = Counting(extractor, torch.float32, compiled=False, apart=apart)
    parameters = [each for each in (*extractor.parameters(), *objective.parameters()) if each.requires_grad]
    optimizer = torch.optim.SGD(parameters)
    given = [Step([Batch(each, index % CLASSES, index)], len(machine), 0.1) for each in x]
    losses = torch.stack(list(fit(embed, objective, optimizer, given, rng)))
    gradients = torch.cat([each.grad.double().flatten() for each in parameters])
    return Trained(losses, gradients, extractor.state_dict(), torch.rand(1, generator=rng), embed.passes)


@pytest.mark.parametrize(
    ("objectives", "machine", "passes"),
    [
        ([Subspace(), Triplet().build()], [0, 1, 2, 0, 1], [20]),
        ([Subspace(), Triplet(enabled=False).build()], [0, 1, 2, 0, 1], [5]),
        ([Triplet(reduction="sum").build(), Subspace(mixup_partner="random")], [0, 1, 1, 2], [16]),
        # A clip without a partner: the triplet's views are smaller.
        ([Subspace(), Triplet(noise_from="same_machine").build()], [0, 1, 0, 1, 2], [5, 12]),
    ],
    ids=["the method", "no triplet", "triplet first", "views of two sizes"],
)
def test_views_together_train_as_views_apart(threads, objectives, machine, passes):
    together, apart = (steps(objectives, machine, apart=apart, count=2) for apart in (False, True))
    assert together.passes == passes * 2
    assert sum(apart.passes) == sum(together.passes)
    assert max(apart.passes) == len(machine)
    # Losses are in float32, all else in float64.
    torch.testing.assert_close(together.losses, apart.losses, rtol=1e-6, atol=0)
    assert (together.gradients - apart.gradients).norm() < 1e-9 * apart.gradients.norm()
    torch.testing.assert_close(together.state, apart.state, rtol=1e-9, atol=1e-9)
    assert torch.equal(together.drawn, apart.drawn)


def test_a_loss_without_views_runs_no_network():
    embed = Counting(network().train(), torch.float32, compiled=False, apart=False)
    batch = Batch(torch.zeros(3, SAMPLES), torch.arange(3), torch.arange(3))
    (loss,) = Sum([Triplet(enabled=False).build()]).terms(embed, batch, torch.Generator())
    assert loss.item() == 0
    assert embed.passes == []


def test_feat_ex_draws_after_the_embedding_and_stays_apart():
    one, other = (steps([Subspace(feat_ex=True), Triplet().build()], [0, 1, 2], apart=apart) for apart in (False, True))
    assert one.passes == other.passes == [3, 3, 3, 3]
    assert torch.equal(one.losses, other.losses)


def test_losses_of_other_kinds_stay_apart():
    class Square(Objective):
        names = ("square",)

        def terms(self, embed, batch, rng) -> Iterator[Tensor]:
            yield F.normalize(embed(batch.x), dim=2).sum()

    assert steps([Square(), Triplet().build()], [0, 1, 2], apart=False).passes == [3, 3, 3, 3]


def test_only_small_batches_of_networks_that_take_views_join(monkeypatch):
    embed, x = Forward(network(), torch.float32, compiled=False), torch.zeros(4, SAMPLES)
    monkeypatch.setattr(forward, "MAX_JOINT_SIZE", x.numel() * 16)
    assert embed.joins(x)
    assert not embed.joins(torch.zeros(5, SAMPLES))
    assert not embed.joins(x.to("meta"))
    assert not Forward(network(), torch.float32, compiled=True).joins(x)
    other = network()
    other.takes_views = False
    assert not Forward(other, torch.float32, compiled=False).joins(x)


def test_a_batch_of_the_paper_stays_apart():
    embed = Forward(network(), torch.float32, compiled=False)
    embed.width = 128
    assert not embed.joins(torch.zeros(1).expand(100, 18 * 16_000))
    embed.width = 32
    assert embed.joins(torch.zeros(1).expand(20, 24_000))
