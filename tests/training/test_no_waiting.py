"""Within a step the program reads nothing back from the device, which would make a GPU wait for it.

Shown on PyTorch's meta device: its tensors have shapes but no values, so that reading one is an error.
"""

import pytest
import torch

from asdpipe.config.method import Triplet
from asdpipe.method.augment import mixup
from asdpipe.method.losses import SubspaceLoss
from asdpipe.models.multi_resolution import MultiResolutionNetwork
from asdpipe.training.fit import triplet_step

SAMPLES, BATCH, CLASSES = 16_000, 6, 3
META = torch.device("meta")


def test_reading_a_value_of_the_meta_device_is_an_error():
    with pytest.raises(RuntimeError):
        torch.zeros(1, device=META).item()


@pytest.mark.parametrize("feat_ex", [False, True])
def test_a_step_reads_no_value(feat_ex):
    network = MultiResolutionNetwork(SAMPLES, 16, (512, 128), 200.0, (32, 8, 4), (8, 4, 2)).to(META)
    subspace = SubspaceLoss(3, 16, CLASSES, 4, adaptive=False, feat_ex=feat_ex).to(META)
    optimizer = torch.optim.AdamW([*network.parameters(), *subspace.parameters()])
    draws = torch.Generator().manual_seed(0)
    x = torch.empty(BATCH, SAMPLES, device=META)
    label = torch.empty(BATCH, CLASSES, device=META)
    mixed, soft = mixup(x, label, probability=0.5, partner="random", generator=draws)
    loss = subspace(network(mixed), soft, draws)
    loss = loss + triplet_step(network, x, torch.arange(BATCH) % 3, Triplet(), draws)
    loss.backward()
    optimizer.step()
    assert loss.is_meta
