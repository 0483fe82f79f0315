"""Time of a training step against the released code's operations, forward, backward and Adam.

    python tests/released_training_step.py [batch] [side of the LR patch] [threads]

The published network, x4, from the same weights on the same batch; emt train in fp32 and bf16. Given are the
best of three steps of each, in turns, in seconds of the clock and of the processor, and the ratios.
"""

from __future__ import annotations

import sys
import time

import torch
from released_reference import ReleasedEMT
from torch.nn import functional as F

from emt_cli.model.config import EMTConfig
from emt_cli.model.emt import EMT


def main() -> None:
    batch, side, threads = (*map(int, sys.argv[1:]), *(8, 64, 2)[len(sys.argv) - 1 :])
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    x = torch.rand(batch, 3, side, side) * 255
    target = torch.rand(batch, 3, 4 * side, 4 * side) * 255
    network = EMT(EMTConfig(4)).train()
    released = ReleasedEMT(network).train()
    kinds = (
        ("released operations", released, False),
        ("emt train", network, False),
        ("... bf16", network, True),
    )
    best = {name: (float("inf"), float("inf")) for name, _, _ in kinds}
    optimizer = torch.optim.Adam(network.parameters(), lr=0.0)
    for _ in range(3):
        for name, one, low in kinds:
            torch.set_flush_denormal(one is network)  # as emt train does
            clock, processor = time.perf_counter(), time.process_time()
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=low):
                answer = one(x)
            F.l1_loss(answer, target).backward()
            optimizer.step()
            spent = (time.perf_counter() - clock, time.process_time() - processor)
            best[name] = (min(best[name][0], spent[0]), min(best[name][1], spent[1]))
    slow = best["released operations"]
    for name, (clock, processor) in best.items():
        ratios = f"{slow[0] / clock:6.2f} {slow[1] / processor:6.2f}"
        print(f"{name:20} {clock:7.2f} s {processor:7.2f} s of the processor {ratios}")


if __name__ == "__main__":
    main()
