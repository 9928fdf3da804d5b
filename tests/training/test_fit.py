"""The training loop: gradients of several losses, and the steps it takes."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from asdpipe.method.objectives import Batch, Objective
from asdpipe.training.fit import fit


class Losses(Objective):
    """Losses by function; notes the generator that it gets."""

    def __init__(self, *losses) -> None:
        super().__init__()
        self.losses, self.names, self.rngs = losses, tuple(f"loss{n}" for n in range(len(losses))), []

    def terms(self, embed, batch, rng) -> Iterator[Tensor]:
        self.rngs.append(rng)
        for loss in self.losses:
            yield loss(embed, batch)


def batches(count: int = 1, seed: int = 0) -> list[Batch]:
    generator = torch.Generator().manual_seed(seed)
    index = torch.zeros(4, dtype=torch.int64)
    return [Batch(torch.randn(4, 5, generator=generator), index, index) for _ in range(count)]


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3))


def square(embed, batch) -> Tensor:
    return embed(batch.x).square().sum()


def third_power(embed, batch) -> Tensor:
    return (2 * embed(-batch.x) ** 3).mean()


def nothing(embed, batch) -> Tensor:
    return batch.x.new_zeros(())


def test_the_gradients_of_all_losses_add_up_to_the_gradient_of_their_sum():
    model, (batch,) = network(), batches()
    before = [each.detach().clone() for each in model.parameters()]
    expected = torch.autograd.grad(square(model, batch) + third_power(model, batch), list(model.parameters()))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    (losses,) = fit(model, Losses(square, third_power), optimizer, [batch], torch.Generator())
    for weight, start, gradient in zip(model.parameters(), before, expected, strict=True):
        torch.testing.assert_close(weight.grad, gradient)
        torch.testing.assert_close(weight.detach(), start - 0.1 * gradient)
    again = network()
    torch.testing.assert_close(losses, torch.stack([square(again, batch), third_power(again, batch)]).detach())
    assert not losses.requires_grad


def test_every_batch_is_a_step_of_its_own_gradients():
    model, plain, given = network(), network(), batches(3)
    optimizers = [torch.optim.Adam(each.parameters(), lr=0.01) for each in (model, plain)]
    found = list(fit(model, Losses(square, third_power), optimizers[0], given, torch.Generator()))
    for batch, losses in zip(given, found, strict=True):
        optimizers[1].zero_grad()
        expected = square(plain, batch), third_power(plain, batch)
        torch.testing.assert_close(losses, torch.stack(expected).detach())
        sum(expected).backward()
        optimizers[1].step()
    for one, other in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_a_loss_without_any_clip_is_a_constant_and_changes_nothing():
    model, plain, given = network(), network(), batches(2)
    optimizers = [torch.optim.SGD(each.parameters(), lr=0.1) for each in (model, plain)]
    found = list(fit(model, Losses(nothing, square, nothing), optimizers[0], given, torch.Generator()))
    list(fit(plain, Losses(square), optimizers[1], given, torch.Generator()))
    assert all(losses[0] == losses[2] == 0 < losses[1] for losses in found)
    for one, other in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(one, other)
    start = [each.detach().clone() for each in model.parameters()]
    (losses,) = fit(model, Losses(nothing), optimizers[0], given[:1], torch.Generator())
    assert losses.tolist() == [0]
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), start, strict=True))


def test_a_loss_is_taken_backward_before_the_next_is_computed():
    model, events = network(), []

    def first(embed, batch) -> Tensor:
        events.append("first")
        loss = square(embed, batch)
        loss.register_hook(lambda _: events.append("backward"))
        return loss

    def second(embed, batch) -> Tensor:
        events.append("second")
        return square(embed, batch)

    list(fit(model, Losses(first, second), torch.optim.SGD(model.parameters()), batches(), torch.Generator()))
    assert events == ["first", "backward", "second"]


def test_a_step_is_done_when_its_losses_come_and_no_batch_is_taken_ahead():
    model, taken = network(), []

    def given():
        for batch in batches(3):
            taken.append(batch)
            yield batch

    start = [each.detach().clone() for each in model.parameters()]
    rng, objective = torch.Generator(), Losses(square)
    steps = fit(model, objective, torch.optim.SGD(model.parameters(), lr=0.1), given(), rng)
    assert not taken
    next(steps)
    assert len(taken) == 1
    assert not any(torch.equal(one, other) for one, other in zip(model.parameters(), start, strict=True))
    assert objective.rngs == [rng]


@pytest.mark.parametrize("count", [0, 1, 4])
def test_there_are_losses_for_every_batch(count):
    model = network()
    losses = list(
        fit(model, Losses(square, nothing), torch.optim.SGD(model.parameters()), batches(count), torch.Generator())
    )
    assert [each.shape for each in losses] == [(2,)] * count
