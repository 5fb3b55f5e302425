"""A file of random weights as the FID Inception's are published."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from spf.evaluation.inception import WEIGHTS, FidInception
from spf.evaluation.weights import Weights, file_hash


def random_inception(folder: Path) -> Weights:
    """Of activations that neither vanish nor explode; under the published name, with this file's hash."""
    torch.manual_seed(0)
    network = FidInception()
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
        elif isinstance(layer, nn.BatchNorm2d):
            for value, low, high in ((layer.weight, 0.8, 1.2), (layer.bias, -0.2, 0.2),
                                     (layer.running_mean, -0.2, 0.2), (layer.running_var, 0.8, 1.2)):
                nn.init.uniform_(value, low, high)
    torch.save(network.state_dict(), folder / WEIGHTS.file)
    return replace(WEIGHTS, sha256=file_hash(folder / WEIGHTS.file)[:8])
