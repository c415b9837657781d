#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the files of torch.save in tests/fuzz/corpus/pth/, which the tests read and the fuzzer begins from.
   make_samples.py FOLDER    needs torch; the files in the repository are from torch 2.15.0
Element i of every tensor, in row-major order, is i/8 - 1, but in ln0.bias, which has the values that are easily lost."""
import collections
import sys

import torch

folder = sys.argv[1]


def values(*shape):
    count = int(torch.tensor(shape).prod())
    return (torch.arange(count) / 8 - 1).reshape(shape)


bits = [0x7FC12345, 0x7F800000, -0x800000, -0x80000000, 1, 0x3F800001]  # NaN, both infinities, -0, subnormal, 1 + 2^-23
wide = torch.zeros(4, 6)
wide[:, 1:4] = values(4, 3)
shared = torch.cat([torch.full((5,), 99.0), values(2, 3).flatten()])
state = collections.OrderedDict(
    {
        "emb.weight": values(5, 3).bfloat16(),
        "blocks.0.ln0.bias": torch.tensor(bits, dtype=torch.int32).view(torch.float32),
        "blocks.0.att.time_maa_x": values(1, 1, 3).half(),
        "blocks.0.att.key.weight": values(3, 4).t().contiguous().t(),  # columns lie one after another
        "blocks.0.att.value.weight": wide[:, 1:4],  # rows with gaps between them
        "blocks.0.att.output.weight": values(2, 3, 4).permute(2, 0, 1).contiguous().permute(1, 2, 0),
        "blocks.0.ffn.key.weight": shared[5:].reshape(2, 3),
        "blocks.0.ffn.value.weight": shared[5:9].reshape(4),  # of the same storage
        "blocks.0.ffn.receptance.weight": torch.nn.Parameter(values(2, 2)),
        "head.weight": torch.tensor([-1.0]).expand(1, 1),
    }
)
state._metadata = collections.OrderedDict({"": {"version": 1}})  # as model.state_dict() has it
torch.save(state, f"{folder}/zip")
torch.save(state, f"{folder}/zip_protocol_4", pickle_protocol=4)
torch.save(state, f"{folder}/legacy", _use_new_zipfile_serialization=False)
torch.serialization.set_crc32_options(False)
torch.save(dict(state), f"{folder}/zip_without_checksums")
