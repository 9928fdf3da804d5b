"""Within a step the program reads nothing back from the device, which would make a GPU wait for it.

Shown on PyTorch's meta device: its tensors have shapes but no values, so that reading one is an error.
"""

import pytest
import torch

from asdpipe.config.losses import Subspace, Triplet
from asdpipe.method.objectives import Batch, Sum
from asdpipe.models.multi_resolution import MultiResolutionNetwork
from asdpipe.training.fit import Step, fit

SAMPLES, BATCH, CLASSES = 16_000, 6, 3
META = torch.device("meta")


def test_reading_a_value_of_the_meta_device_is_an_error():
    with pytest.raises(RuntimeError):
        torch.zeros(1, device=META).item()


@pytest.mark.parametrize("feat_ex", [False, True])
def test_a_step_reads_no_value(feat_ex):
    network = MultiResolutionNetwork(SAMPLES, 16, (512, 128), 200.0, (32, 8, 4), (8, 4, 2)).to(META)
    loss = Subspace(subclusters=4, feat_ex=feat_ex, mixup_partner="random")
    objective = Sum([loss.build(embedding_shape=(3, 16), num_classes=CLASSES), Triplet().build()]).to(META)
    optimizer = torch.optim.AdamW([*network.parameters(), *objective.parameters()])
    labels = torch.arange(BATCH) % CLASSES
    batch = Batch(torch.empty(BATCH, SAMPLES, device=META), labels, labels)
    step = Step([batch], BATCH, 1e-3)
    (losses,) = fit(network, objective, optimizer, [step], torch.Generator().manual_seed(0))
    assert losses.is_meta
    assert losses.shape == (2,)
    # Both losses reached the network and the centres.
    assert all(each.grad is not None for each in [*network.parameters(), *objective.parameters()])
