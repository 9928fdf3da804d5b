"""Branches of a network that do not depend on each other, side by side on a CPU."""

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

WORKERS = 2

Branch = Callable[[], Tensor]
"""Computes the embedding of a branch, (batch, width)."""


def embed_side_by_side(branches: Sequence[Branch], parameter: Tensor) -> Tensor:
    """Return the embeddings of all branches, (batch, branches, width), for a training on a CPU.

    Two workers compute branches, forward and backward, with half of PyTorch's threads each. Shared among all threads,
    the operators of a small network are too short to gain, and those of a large one wait for memory. Which worker
    computes what does not change the result.

    Args:
        branches: functions of tensors without gradients, longest last; none has parameters of another.
        parameter: one that is trained. Gradients of all are added to ``grad`` by ``backward``; ``torch.autograd.grad``
            does not see them.
    """
    embeddings: Tensor = _InWorkers.apply(branches, parameter)
    return embeddings


class _InWorkers(torch.autograd.Function):
    """Compute branches in workers; the graph of each is kept, and its backward pass is run by a worker, too."""

    @staticmethod
    def forward(ctx: Any, branches: Sequence[Branch], parameter: Tensor) -> Tensor:
        enabled, dtype = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")

        def embed(branch: Branch) -> Tensor:
            # Modes of PyTorch are those of a thread. Weights are used once, so that their casts need no cache, which
            # threads share.
            with torch.enable_grad(), torch.autocast("cpu", dtype, enabled=enabled, cache_enabled=False):
                return branch()

        ctx.embeddings = _side_by_side([functools.partial(embed, branch) for branch in branches])
        return torch.stack([embedding.detach() for embedding in ctx.embeddings], dim=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, None]:
        work = zip(ctx.embeddings, grad.unbind(1), strict=True)
        _side_by_side([functools.partial(torch.autograd.backward, *each) for each in work])
        return None, None


def _side_by_side(work: Sequence[Callable[[], Any]]) -> list[Any]:
    """Do the work in two threads, from the last on, and return the results in order."""
    workers = _workers(max(1, torch.get_num_threads() // WORKERS))
    futures = [workers.submit(each) for each in reversed(work)]
    return [future.result() for future in reversed(futures)]


@functools.lru_cache(maxsize=1)
def _workers(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(WORKERS, "branch", torch.set_num_threads, (threads,))
