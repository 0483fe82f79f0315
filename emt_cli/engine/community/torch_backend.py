"""Compute a network of others with torch."""

from __future__ import annotations

import os
import warnings
from copy import deepcopy
from threading import Lock

import torch

from emt_cli.engine.community.network import CommunityNetwork
from emt_cli.engine.device import Device, Precision
from emt_cli.engine.tiling import Floats
from emt_cli.engine.torch.runner import DTYPES
from emt_cli.errors import DeviceError
from emt_cli.steps import Steps


class TorchBackend:
    """The network on a device, in a precision; one thread at a time."""

    name = "torch"

    def __init__(self, network: CommunityNetwork, device: Device, precision: Precision) -> None:
        self.precision = precision
        self._device, self._dtype = torch.device(device), DTYPES[precision]
        self._call = network.descriptor._call_fn
        model = network.descriptor.model
        shared = self._device.type == "cpu" and precision == "fp32"
        self._model = model if shared else deepcopy(model).to(self._device, self._dtype)
        self._process = os.getpid()
        self._computing = Lock()

    def infer(self, plane: Floats) -> Steps[Floats]:
        """Return the answer (1, c, H, W) to (1, c, h, w); the layers are not seen one by one."""
        if self._process != os.getpid():
            raise DeviceError("torch does not survive a fork: make the Upscaler in the forked process")
        if self._device.type == "cpu":
            torch.set_flush_denormal(True)
        yield 0.0
        with self._computing, torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            x = torch.from_numpy(plane).to(self._device, self._dtype)
            answer: Floats = self._call(self._model, x).float().cpu().numpy()
        return answer
