# SPDX-License-Identifier: Apache-2.0
"""numpy for the logsumexp, then FAISS: a threshold on scores is a range search by inner product.

usage: faiss_range.py QK.safetensors THRESHOLD causal|full

FAISS takes one radius for all queries, the cut is one per row. One more dimension carries it: with
q' = [scale q, -(logsumexp + ln t)] and k' = [k, 1] an edge is q' k' >= 0. Causal: keys join the index as the rows come
to them, and the few that a row does not see yet are dropped afterwards.
"""

import sys

import faiss
import numpy as np

import safetensors_file
from numpy_chunks import CHUNKS, Extractor
from serve import blas_kernel, fastest, serve


class LogSumExp(Extractor):
    """The statistics half of the numpy peer."""

    def rows_logsumexp(self, q, k, begin, end, causal):
        n = end if causal else len(k)
        rows = end - begin
        scores = self.scores[: rows * n].reshape(rows, n)
        np.matmul(q[begin:end], k[:n].T, out=scores)
        if causal:
            scores[:, begin:] += self.above_diagonal[:rows, :rows]
        top = scores.max(axis=1)
        scores -= top[:, None]
        np.exp(scores, out=scores)
        return top + np.log(scores @ self.ones[:n])


def extract(q, k, scale, threshold, causal, statistics, first_row=0):
    q = q * np.float32(scale)
    wide_k = np.concatenate([k, np.ones((len(k), 1), np.float32)], axis=1)
    index = faiss.IndexFlatIP(wide_k.shape[1])
    if not causal:
        index.add(wide_k)
    elif first_row > 0:
        index.add(wide_k[:first_row])
    counts, keys, weights = [], [], []
    for begin in range(first_row, len(q), statistics.chunk):
        end = min(begin + statistics.chunk, len(q))
        cut = statistics.rows_logsumexp(q, k, begin, end, causal) + np.float32(np.log(threshold))
        if causal:
            index.add(wide_k[begin:end])
        wide_q = np.concatenate([q[begin:end], -cut[:, None]], axis=1)
        limits, above, found = index.range_search(wide_q, 0.0)
        row = np.repeat(np.arange(end - begin), np.diff(limits.astype(np.int64)))
        if causal:
            seen = found <= row + begin
            row, above, found = row[seen], above[seen], found[seen]
        order = np.lexsort((found, row))
        counts.append(np.bincount(row, minlength=end - begin))
        keys.append(found[order].astype(np.int32))
        weights.append(np.exp(above[order]) * np.float32(threshold))
    counts = np.concatenate(counts)
    offsets = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets, np.concatenate(keys), np.concatenate(weights)


def main():
    faiss.omp_set_num_threads(1)
    q, k, scale = safetensors_file.read_qk(sys.argv[1])
    threshold, causal = float(sys.argv[2]), sys.argv[3] == "causal"
    first_row = max(0, len(q) - 1024)
    sides = {chunk: LogSumExp(len(k), chunk) for chunk in CHUNKS}
    chunk = fastest(CHUNKS, lambda c: extract(q, k, scale, threshold, causal, sides[c], first_row))
    serve(
        f"faiss {faiss.__version__}, OpenBLAS {blas_kernel()}, {chunk} rows a chunk",
        lambda: extract(q, k, scale, threshold, causal, sides[chunk]),
    )


if __name__ == "__main__":
    main()
