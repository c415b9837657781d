# SPDX-License-Identifier: Apache-2.0
"""Opens a run's checkpoint with h5py: whole tensors, the parameters equal to those exported as .safetensors."""
import json
import struct
import sys

import h5py
import numpy as np


def read_safetensors(path):
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        values = file.read()
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        tensors[name] = np.frombuffer(values[begin:end], dtype=np.float32).reshape(entry["shape"])
    return tensors


exported = read_safetensors(sys.argv[2])
assert len(exported) > 50, sorted(exported)
with h5py.File(sys.argv[1], "r") as file:
    assert (file.attrs["step"], file.attrs["samples"], file.attrs["tokens"]) == (3, 6, 96), dict(file.attrs)
    assert "n_layer: 3\n" in file.attrs["config"]
    for group in "model", "optim/exp_avg", "optim/exp_avg_sq":
        assert sorted(file[group]) == sorted(exported), group
        for name, want in exported.items():
            assert file[group][name].shape == want.shape and file[group][name].dtype == np.float32, (group, name)
    for name, want in exported.items():
        assert np.array_equal(file["model"][name][...], want), name
    assert any(np.any(file["optim/exp_avg_sq"][name][...] > 0) for name in exported)
