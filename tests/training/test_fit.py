"""The training loop: gradients of several losses, and the steps it takes."""

from collections.abc import Iterable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from asdpipe.method.objectives import Batch, Objective
from asdpipe.training.fit import Step, fit


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


def steps_of(given: Iterable[Batch], learning_rate: float = 0.1) -> Iterator[Step]:
    """Yield a step for every batch."""
    return (Step([batch], len(batch.x), learning_rate) for batch in given)


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
    (losses,) = fit(model, Losses(square, third_power), optimizer, steps_of([batch]), torch.Generator())
    for weight, start, gradient in zip(model.parameters(), before, expected, strict=True):
        torch.testing.assert_close(weight.grad, gradient)
        torch.testing.assert_close(weight.detach(), start - 0.1 * gradient)
    again = network()
    torch.testing.assert_close(losses, torch.stack([square(again, batch), third_power(again, batch)]).detach())
    assert not losses.requires_grad


def test_every_batch_is_a_step_of_its_own_gradients():
    model, plain, given = network(), network(), batches(3)
    optimizers = [torch.optim.Adam(each.parameters(), lr=0.01) for each in (model, plain)]
    found = list(fit(model, Losses(square, third_power), optimizers[0], steps_of(given, 0.01), torch.Generator()))
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
    found = list(fit(model, Losses(nothing, square, nothing), optimizers[0], steps_of(given), torch.Generator()))
    list(fit(plain, Losses(square), optimizers[1], steps_of(given), torch.Generator()))
    assert all(losses[0] == losses[2] == 0 < losses[1] for losses in found)
    for one, other in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(one, other)
    start = [each.detach().clone() for each in model.parameters()]
    (losses,) = fit(model, Losses(nothing), optimizers[0], steps_of(given[:1]), torch.Generator())
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

    list(fit(model, Losses(first, second), torch.optim.SGD(model.parameters()), steps_of(batches()), torch.Generator()))
    assert events == ["first", "backward", "second"]


def test_a_step_is_done_when_its_losses_come_and_no_batch_is_taken_ahead():
    model, taken = network(), []

    def given():
        for batch in batches(3):
            taken.append(batch)
            yield batch

    start = [each.detach().clone() for each in model.parameters()]
    rng, objective = torch.Generator(), Losses(square)
    steps = fit(model, objective, torch.optim.SGD(model.parameters(), lr=0.1), steps_of(given()), rng)
    assert not taken
    next(steps)
    assert len(taken) == 1
    assert not any(torch.equal(one, other) for one, other in zip(model.parameters(), start, strict=True))
    assert objective.rngs == [rng]


@pytest.mark.parametrize("count", [0, 1, 4])
def test_there_are_losses_for_every_batch(count):
    model = network()
    losses = list(
        fit(
            model,
            Losses(square, nothing),
            torch.optim.SGD(model.parameters()),
            steps_of(batches(count)),
            torch.Generator(),
        )
    )
    assert [each.shape for each in losses] == [(2,)] * count


# ---------------------------------------------------------------- micro-batches


@pytest.mark.parametrize("sizes", [[12], [6, 6], [5, 4, 3], [1, 11], [1] * 12])
def test_micro_batches_are_one_batch(sizes):
    model, whole = (network().double() for _ in range(2))
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3, 12, 5, generator=generator, dtype=torch.float64)
    label = torch.randint(0, 3, (3, 12), generator=generator)
    head = torch.nn.Linear(3, 3).double()

    def cross_entropy(embed, batch) -> Tensor:
        return F.cross_entropy(head(embed(batch.x)), batch.class_index)

    taken = torch.optim.AdamW(model.parameters(), weight_decay=0.1)
    steps = [
        Step([Batch(*part, part[1]) for part in zip(one.split(sizes), each.split(sizes), strict=True)], 12, 0.03)
        for one, each in zip(x, label, strict=True)
    ]
    found = list(fit(model, Losses(cross_entropy, third_power), taken, steps, torch.Generator()))
    # The step of the whole batch, in the usual way.
    expected = torch.optim.AdamW(whole.parameters(), lr=0.03, weight_decay=0.1)
    for one, each, losses in zip(x, label, found, strict=True):
        terms = F.cross_entropy(head(whole(one)), each), (2 * whole(-one) ** 3).mean()
        torch.testing.assert_close(losses, torch.stack(terms).detach(), rtol=0, atol=1e-12)
        expected.zero_grad()
        sum(terms).backward()
        expected.step()
    for one, other in zip(model.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_a_micro_batch_is_taken_when_the_one_before_is_done():
    model, events = network(), []

    def loss(embed, batch) -> Tensor:
        value = square(embed, batch)
        value.register_hook(lambda _: events.append("backward"))
        return value

    def parts():
        for batch in batches(2):
            events.append("taken")
            yield batch

    list(fit(model, Losses(loss), torch.optim.SGD(model.parameters()), [Step(parts(), 8, 0.1)], torch.Generator()))
    assert events == ["taken", "backward"] * 2


def test_every_step_has_its_learning_rate():
    model, plain, rates = network(), network(), (0.0, 0.5, 0.01)
    steps = [Step([batch], 4, rate) for batch, rate in zip(batches(3), rates, strict=True)]
    list(fit(model, Losses(square), torch.optim.SGD(model.parameters(), lr=9.0), steps, torch.Generator()))
    for batch, rate in zip(batches(3), rates, strict=True):
        gradients = torch.autograd.grad(square(plain, batch), list(plain.parameters()))
        for weight, gradient in zip(plain.parameters(), gradients, strict=True):
            weight.data.sub_(rate * gradient)
    for one, other in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other)
