"""Networks of others with random weights, from spandrel's own constructors, small enough for any test.

Their last convolution is set so that the answer to a photograph has the range of a photograph.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import nn

from emt_cli.engine.community.read import import_spandrel

if find_spec("spandrel") is None:
    raise ModuleNotFoundError("spandrel")
import_spandrel()

from spandrel.architectures.ATD import ATD  # noqa: E402
from spandrel.architectures.Compact import Compact  # noqa: E402
from spandrel.architectures.CRAFT import CRAFT  # noqa: E402
from spandrel.architectures.DAT import DAT  # noqa: E402
from spandrel.architectures.DCTLSA import DCTLSA  # noqa: E402
from spandrel.architectures.DITN import DITN  # noqa: E402
from spandrel.architectures.DRCT import DRCT  # noqa: E402
from spandrel.architectures.ESRGAN import ESRGAN  # noqa: E402
from spandrel.architectures.FDAT import FDAT  # noqa: E402
from spandrel.architectures.HAT import HAT  # noqa: E402
from spandrel.architectures.MoESR import MoESR  # noqa: E402
from spandrel.architectures.MoSR import MoSR  # noqa: E402
from spandrel.architectures.OmniSR import OmniSR  # noqa: E402
from spandrel.architectures.PLKSR import PLKSR, RealPLKSR  # noqa: E402
from spandrel.architectures.RCAN import RCAN  # noqa: E402
from spandrel.architectures.RealCUGAN import UpCunet2x  # noqa: E402
from spandrel.architectures.RGT import RGT  # noqa: E402
from spandrel.architectures.SAFMN import SAFMN  # noqa: E402
from spandrel.architectures.SeemoRe import SeemoRe  # noqa: E402
from spandrel.architectures.SPAN import SPAN  # noqa: E402
from spandrel.architectures.Swin2SR import Swin2SR  # noqa: E402
from spandrel.architectures.SwinIR import SwinIR  # noqa: E402

_WINDOWS: dict[str, Any] = {"img_size": 64, "window_size": 8, "mlp_ratio": 2, "upsampler": "pixelshuffle"}

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "ESRGAN": lambda: ESRGAN(num_filters=8, num_blocks=2, scale=4),
    "ESRGAN x8": lambda: ESRGAN(num_filters=8, num_blocks=1, scale=8),
    "ESRGAN x1": lambda: ESRGAN(num_filters=8, num_blocks=1, scale=1),
    "Compact": lambda: Compact(num_feat=8, num_conv=3, upscale=2),
    "Compact gray": lambda: Compact(num_in_ch=1, num_out_ch=1, num_feat=8, num_conv=3, upscale=3),
    "SPAN": lambda: SPAN(num_in_ch=3, num_out_ch=3, feature_channels=16, upscale=4),
    "PLKSR": lambda: PLKSR(dim=16, n_blocks=2, upscaling_factor=2),
    "RealPLKSR": lambda: RealPLKSR(dim=16, n_blocks=2, upscaling_factor=4, dysample=True),
    "OmniSR": lambda: OmniSR(num_feat=16, res_num=1, up_scale=2),
    "SwinIR": lambda: SwinIR(**_WINDOWS, embed_dim=12, depths=[2, 2], num_heads=[2, 2], upscale=2),
    "Swin2SR": lambda: Swin2SR(**_WINDOWS, embed_dim=12, depths=[2, 2], num_heads=[2, 2], upscale=2),
    "HAT": lambda: HAT(
        **(_WINDOWS | {"window_size": 16}),
        embed_dim=12,
        depths=(1, 1),
        num_heads=(2, 2),
        squeeze_factor=3,
        upscale=2,
    ),
    "DAT": lambda: DAT(
        embed_dim=16, split_size=[8, 16], depth=[2], num_heads=[2], expansion_factor=2, upscale=2
    ),
    "ATD": lambda: ATD(
        **_WINDOWS, embed_dim=12, depths=(2,), num_heads=(2,), category_size=64, num_tokens=16, upscale=2
    ),
    "DRCT": lambda: DRCT(**_WINDOWS, embed_dim=12, depths=(1,), num_heads=(2,), gc=4, upscale=4),
    "RCAN": lambda: RCAN(scale=2, n_resgroups=1, n_resblocks=2, n_feats=16, reduction=4),
    "SAFMN": lambda: SAFMN(dim=16, n_blocks=2, upscaling_factor=4),
    "DITN": lambda: DITN(dim=12, ITL_blocks=1, SAL_blocks=1, upscale=4),
    "CRAFT": lambda: CRAFT(embed_dim=12, depths=[1], num_heads=[2], upscale=2),
    "SeemoRe": lambda: SeemoRe(scale=2, num_layers=1, embedding_dim=24, num_experts=3),
    "MoSR": lambda: MoSR(n_block=2, dim=16, upscale=2),
    "MoESR": lambda: MoESR(scale=2, dim=16, n_blocks=1, n_block=2, upsample_dim=16),
    "RGT": lambda: RGT(embed_dim=24, depth=[2], num_heads=[2], mlp_ratio=2, upscale=2),
    "RealCUGAN": lambda: UpCunet2x(),
    "FDAT": lambda: FDAT(embed_dim=16, num_groups=1, depth_per_group=2, num_heads=2, scale=2, mid_dim=16),
    "DCTLSA": lambda: DCTLSA(nf=20, upscale=2),
}


def make(name: str, photo: np.ndarray) -> dict[str, torch.Tensor]:
    """Return the state_dict of a network, its answer to the photo (RGB, uint8) looking like a photo."""
    torch.manual_seed(0)
    model = NETWORKS[name]().eval()
    x = torch.from_numpy(photo[:96, :96].astype(np.float32) / 255).permute(2, 0, 1)[None]
    last: list[nn.Conv2d] = []
    hooks = [
        module.register_forward_hook(lambda module, _, __: last.append(module))
        for module in model.modules()
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d))
    ]
    gray = "gray" in name
    with torch.no_grad():
        for _ in range(2):
            last.clear()
            answer = model(x[:, :1] if gray else x)
            last[-1].weight *= 0.15 / answer.std().clamp(min=1e-4)
            if last[-1].bias is not None:
                last[-1].bias += 0.5 - model(x[:, :1] if gray else x).mean()
    for hook in hooks:
        hook.remove()
    return model.state_dict()
