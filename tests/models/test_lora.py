"""Low-rank adapters on linear layers."""

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from asdpipe.models.lora import Lora, LoraLinear, adapters, add_lora, base_names


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.q_proj, self.k_proj = nn.Linear(6, 4), nn.Linear(6, 4)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.ModuleList([Pair(), Pair()])


def test_an_adapter_adds_nothing_before_training_and_the_scaled_product_after():
    torch.manual_seed(0)
    base, x = nn.Linear(6, 4), torch.randn(3, 5, 6)
    layer = LoraLinear(base, Lora(rank=2, alpha=3.0))
    assert torch.equal(layer(x), base(x))
    nn.init.normal_(layer.lora_b)
    merged = base.weight + 1.5 * torch.einsum("or,ri->oi", layer.lora_b, layer.lora_a)
    torch.testing.assert_close(layer(x), x @ merged.T + base.bias)
    # Kaiming-uniform with a = sqrt(5): +-1/sqrt(in_features).
    assert 0 < layer.lora_a.abs().max() <= 6**-0.5


def test_only_the_adapters_of_the_named_layers_train(network):
    add_lora(network, ["q_proj"], Lora(rank=2, alpha=8.0))
    names = {f"{index}.q_proj.lora_{factor}" for index in range(2) for factor in "ab"}
    assert {name for name, parameter in network.named_parameters() if parameter.requires_grad} == names
    assert adapters(network).keys() == names
    assert isinstance(network[0].k_proj, nn.Linear)


def test_tensors_of_the_bare_network_find_their_layers(network):
    bare = {name: value.clone() for name, value in network.state_dict().items()}
    add_lora(network, ["q_proj"], Lora(rank=2, alpha=8.0))
    renamed = {base_names(network).get(name, name): value for name, value in bare.items()}
    assert renamed.keys() == network.state_dict().keys() - adapters(network).keys()
    assert all(torch.equal(network.state_dict()[name], value) for name, value in renamed.items())


@pytest.mark.parametrize("wrong", [{"rank": 0}, {"alpha": 0.0}, {"beta": 1}])
def test_impossible_sizes_are_refused(wrong):
    with pytest.raises(ValidationError):
        Lora(**{"rank": 2, "alpha": 8.0, **wrong})
