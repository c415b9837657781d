#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs a PyTorch peer of compare_peer.py, written for a CPU, on a GPU as its users would: products in bf16 (autocast) over
float32 parameters, fused AdamW, and times that wait for the GPU.

    bench/peer_on_gpu.py PEER.py ARGUMENTS...
"""
import os
import runpy
import sys
import time

import torch

MADE = torch.nn.Parameter
CLOCK = time.perf_counter


def parameter(values, *more):
    """Of values from the CPU's generator, moved. From the first on, all else is made on the GPU."""
    torch.set_default_device("cuda")
    return MADE(values.to("cuda"), *more)


def clock():
    torch.cuda.synchronize()
    return CLOCK()


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.nn.Parameter, time.perf_counter = parameter, clock
    sys.argv = sys.argv[1:]
    sys.path.insert(0, os.path.dirname(os.path.abspath(sys.argv[0])))
    with torch.autocast("cuda", torch.bfloat16):
        runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
