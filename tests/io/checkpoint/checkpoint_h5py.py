# SPDX-License-Identifier: Apache-2.0
"""Opens a checkpoint of tests/io/checkpoint_samples.h with h5py and checks all it should see there."""
import sys

import h5py
import numpy as np

SHAPES = {  # in the order of sample_state()
    "model/emb.weight": (7, 5),
    "model/blocks.0.att.time_faaaa": (2, 3, 4),
    "model/blocks.0.ln1.bias": (5,),
    "optim/exp_avg/emb.weight": (7, 5),
    "optim/exp_avg_sq/emb.weight": (7, 5),
}

with h5py.File(sys.argv[1], "r") as file:
    assert file.attrs["format"] == "gf-checkpoint-2", file.attrs["format"]
    assert file.attrs["program"] == "gf-test 1"
    assert file.attrs["config"] == "model:\n  n_embd: 5  # caf\u00e9\n", file.attrs["config"]
    assert (file.attrs["step"], file.attrs["samples"], file.attrs["tokens"]) == (100, 1600, 102400)
    found = []
    file.visititems(lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) else None)
    assert sorted(found) == sorted(SHAPES), found
    for index, (name, shape) in enumerate(SHAPES.items()):
        dataset = file[name]
        assert dataset.shape == shape and dataset.dtype == np.float32, (name, dataset.shape, dataset.dtype)
        want = 1000 * index + np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
        assert np.array_equal(dataset[...], want), (name, dataset[...])
        assert dataset.attrs["piece_end"][-1] == np.prod(shape)
        assert len(dataset.attrs["piece_xxh3_64"]) == len(dataset.attrs["piece_begin"])
