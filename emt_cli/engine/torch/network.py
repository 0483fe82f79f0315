"""Models as torch's network, and back."""

from __future__ import annotations

import torch

from emt_cli.engine.weights import Weights
from emt_cli.model.emt import EMT


def build_network(weights: Weights) -> EMT:
    """Build the network of these weights, in evaluation mode on the CPU."""
    network = EMT(weights.config)
    network.load_state_dict({name: torch.tensor(value) for name, value in weights.tensors.items()})
    return network.eval()


def weights_of(network: EMT) -> Weights:
    """Return a network's weights as a model that lies in no file."""
    tensors = {name: value.detach().cpu().numpy() for name, value in network.state_dict().items()}
    return Weights(network.config, tensors, {}, "")
