# SPDX-License-Identifier: Apache-2.0
"""numpy's way from a ready matrix to edges.

usage: numpy_matrix.py MATRIX.npy THRESHOLD nonzero|flatnonzero|chunks

nonzero: what everybody writes, `np.nonzero(a >= t)` and `a[rows, keys]`. flatnonzero: the same on one dimension, for
which numpy has a fast path. chunks: flatnonzero over rows that stay in the cache, with buffers made once.
"""

import sys

import numpy as np

from serve import fastest, serve

CHUNKS = (4, 16, 64, 256)


def csr(counts, keys, weights):
    offsets = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets, keys.astype(np.int32), weights


def by_nonzero(a, threshold):
    rows, keys = np.nonzero(a >= threshold)
    return csr(np.bincount(rows, minlength=len(a)), keys, a[rows, keys])


def by_flatnonzero(a, threshold):
    places = np.flatnonzero(a >= threshold)
    rows, keys = np.divmod(places, a.shape[1])
    return csr(np.bincount(rows, minlength=len(a)), keys, a.reshape(-1)[places])


def by_chunks(a, threshold, chunk, row_count=None):
    keep = np.empty((chunk, a.shape[1]), bool)
    counts, all_keys, weights = [], [], []
    row_count = len(a) if row_count is None else row_count
    for begin in range(0, row_count, chunk):
        part = a[begin : min(begin + chunk, row_count)]
        kept = keep[: len(part)]
        np.greater_equal(part, threshold, out=kept)
        places = np.flatnonzero(kept)
        rows, keys = np.divmod(places, a.shape[1])
        counts.append(np.bincount(rows, minlength=len(part)))
        all_keys.append(keys)
        weights.append(part.reshape(-1)[places])
    return csr(np.concatenate(counts), np.concatenate(all_keys), np.concatenate(weights))


def main():
    # The threshold as the library understands it, exact in double: the smallest float32 that is not below it.
    wanted = float(sys.argv[2])
    threshold = np.float32(wanted)
    if float(threshold) < wanted:
        threshold = np.nextafter(threshold, np.float32(np.inf))
    a = np.load(sys.argv[1])
    way = sys.argv[3]
    facts = f"numpy {np.__version__}, {way}"
    if way == "nonzero":
        serve(facts, lambda: by_nonzero(a, threshold))
    elif way == "flatnonzero":
        serve(facts, lambda: by_flatnonzero(a, threshold))
    else:
        chunk = fastest(CHUNKS, lambda chunk: by_chunks(a, threshold, chunk, min(len(a), 1024)))
        serve(f"{facts} of {chunk} rows", lambda: by_chunks(a, threshold, chunk))


if __name__ == "__main__":
    main()
