"""Branches in workers against the same network in one thread."""

import copy
from collections.abc import Iterator
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from asdpipe.models.branches import embed_side_by_side
from asdpipe.models.multi_resolution import MultiResolutionNetwork

SAMPLES, VIEWS = 6000, 3


@pytest.fixture
def threads() -> Iterator[None]:
    """Leave the number of threads as it was."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def trained(network: nn.Module, dtype: torch.dtype) -> tuple[list[Tensor], list[Tensor], dict[str, Tensor]]:
    """Return the embeddings of three views, the gradients of their product, and the state dict afterwards."""
    network = copy.deepcopy(network).train()
    generator = torch.Generator().manual_seed(1)
    views = []
    for _ in range(VIEWS):
        # A context for each view, as in training: within one, gradients of weights would be added up in bfloat16.
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            views.append(network(0.1 * torch.randn(4, SAMPLES, generator=generator)))
    a, b, c = (view.float() for view in views)
    (a * b * c).sum().backward()
    return views, [parameter.grad for parameter in network.parameters()], network.state_dict()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_workers_compute_what_one_thread_computes(threads, dtype):
    torch.manual_seed(0)
    network = MultiResolutionNetwork(SAMPLES, 16, (512, 128), 200.0, (32, 8, 4), (8, 4, 2))
    torch.set_num_threads(1)
    views, gradients, state = trained(network, dtype)
    torch.set_num_threads(2)
    found = [trained(network, dtype) for _ in range(3)]
    assert torch.get_num_threads() == 2
    for other_views, other_gradients, other_state in found:
        assert all(torch.equal(*pair) for pair in zip(views, other_views, strict=True))
        assert all(torch.equal(state[name], other_state[name]) for name in state)
        # The views' gradients are added up one by one instead of all at once, always in the same order.
        for one, other, first in zip(gradients, other_gradients, found[0][1], strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * one.abs().max().item())
            assert torch.equal(other, first)


def test_without_gradients_no_worker_is_asked(threads, monkeypatch):
    monkeypatch.setattr("asdpipe.models.multi_resolution.embed_side_by_side", None)
    torch.set_num_threads(2)
    network, x = MultiResolutionNetwork(SAMPLES, 8, (512, 128), 200.0, (32, 8, 4), (8, 4, 2)), torch.zeros(2, SAMPLES)
    network.eval()(x).sum().backward()
    with torch.no_grad():
        network.train()(x)
    network.requires_grad_(False)(x)


def test_an_error_in_a_branch_is_raised(threads):
    weight = torch.ones(2, requires_grad=True)

    def fail() -> Tensor:
        raise ValueError("too short")

    with pytest.raises(ValueError, match="too short"):
        embed_side_by_side([partial(torch.mul, weight, 2), fail], weight)
