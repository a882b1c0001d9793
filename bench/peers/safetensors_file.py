# SPDX-License-Identifier: Apache-2.0
"""A reader of safetensors in numpy, so that the peers need no package and read as directly as one can."""

import json

import numpy as np

DTYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "I64": np.int64, "I32": np.int32, "BF16": np.uint16}


def read(path):
    """Tensors by name, and the metadata. BF16 becomes float32: its bits are the upper half."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        data = np.fromfile(file, np.uint8)
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        tensor = data[begin:end].view(DTYPES[entry["dtype"]]).reshape(entry["shape"])
        if entry["dtype"] == "BF16":
            tensor = (tensor.astype(np.uint32) << 16).view(np.float32)
        tensors[name] = tensor
    return tensors, metadata


def read_qk(path):
    """What bench_worker make-qk wrote: q and k [N, D] in float32, and their scale."""
    tensors, _ = read(path)
    q, k = (np.ascontiguousarray(tensors[name], np.float32) for name in ("q.0", "k.0"))
    return q, k, 1 / np.sqrt(q.shape[-1])
