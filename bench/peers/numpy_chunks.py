# SPDX-License-Identifier: Apache-2.0
"""The peer that most people would write: numpy, a chunk of rows at a time, as an expert writes it.

usage: numpy_chunks.py serve QK.safetensors THRESHOLD causal|full WAY
       numpy_chunks.py file QK.safetensors THRESHOLD OUT.npz WAY CHUNK

float32; scores only against the keys that the chunk's last row can see; everything in place in buffers made once.
WAY nonzero: weights by division, then np.nonzero(w >= t), as one writes it. WAY flatnonzero: what a profiler leads to:
no division of the whole chunk (w >= t is e >= t * sum), row sums by BLAS, and nonzero of one dimension, for which numpy
has a fast path.
"""

import sys
import time

import numpy as np

import safetensors_file

CHUNKS = (32, 64, 128, 256, 512)


class Extractor:
    def __init__(self, n, chunk, way="flatnonzero"):
        self.chunk, self.way = chunk, way
        self.scores = np.empty(chunk * n, np.float32)
        self.keep = np.empty(chunk * n, bool)
        self.ones = np.ones(n, np.float32)
        # Added to the square on the diagonal: -inf above it.
        self.above_diagonal = np.triu(np.full((chunk, chunk), -np.inf, np.float32), 1)

    def rows(self, q, k, begin, end, threshold, causal):
        """Edges of rows [begin, end): counts per row, keys, weights, logsumexp. q is scaled already."""
        n = end if causal else len(k)
        rows = end - begin
        scores = self.scores[: rows * n].reshape(rows, n)
        np.matmul(q[begin:end], k[:n].T, out=scores)
        if causal:
            scores[:, begin:] += self.above_diagonal[:rows, :rows]
        top = scores.max(axis=1)
        scores -= top[:, None]
        np.exp(scores, out=scores)
        keep = self.keep[: rows * n].reshape(rows, n)
        if self.way == "nonzero":
            total = scores.sum(axis=1)
            scores /= total[:, None]
            np.greater_equal(scores, threshold, out=keep)
            row, key = np.nonzero(keep)
            weights = scores[row, key]
        else:
            total = scores @ self.ones[:n]
            np.greater_equal(scores, (threshold * total)[:, None], out=keep)
            places = np.flatnonzero(keep)
            row, key = np.divmod(places, n)
            weights = scores.reshape(-1)[places] / total[row]
        return np.bincount(row, minlength=rows), key.astype(np.int32), weights, top + np.log(total)

    def extract(self, q, k, scale, threshold, causal, first_row=0):
        q = q * np.float32(scale)
        threshold = np.float32(threshold)
        blocks = [
            self.rows(q, k, begin, min(begin + self.chunk, len(q)), threshold, causal)
            for begin in range(first_row, len(q), self.chunk)
        ]
        counts, keys, weights, logsumexp = (np.concatenate(part) for part in zip(*blocks))
        offsets = np.zeros(len(q) - first_row + 1, np.int64)
        np.cumsum(counts, out=offsets[1:])
        return offsets, keys, weights, logsumexp


def tuned_chunk(q, k, scale, threshold, causal, way):
    from serve import fastest

    first_row = max(0, len(q) - 1024)
    extractors = {chunk: Extractor(len(k), chunk, way) for chunk in CHUNKS}
    return fastest(CHUNKS, lambda chunk: extractors[chunk].extract(q, k, scale, threshold, causal, first_row))


def serve_side(path, threshold, causal, way):
    from serve import blas_kernel, serve

    q, k, scale = safetensors_file.read_qk(path)
    chunk = tuned_chunk(q, k, scale, threshold, causal, way)
    extractor = Extractor(len(k), chunk, way)
    serve(
        f"numpy {np.__version__}, OpenBLAS {blas_kernel()}, {chunk} rows a chunk",
        lambda: extractor.extract(q, k, scale, threshold, causal)[:3],
    )


def extract_file(path, threshold, out, way, chunk):
    """What `attngraph extract` does: all layers and heads of a file into one CSR file."""
    tensors, metadata = safetensors_file.read(path)
    causal = metadata.get("causal", "false") == "true"
    slices, arrays = [], {name: [] for name in ("offsets", "keys", "weights", "logsumexp")}
    layers = sorted(int(name[2:]) for name in tensors if name.startswith("q."))
    for layer in layers:
        q, k = (tensors[f"{name}.{layer}"].astype(np.float32) for name in "qk")
        scale = float(metadata.get("scale", q.shape[-1] ** -0.5))
        extractor = Extractor(k.shape[1], chunk, way)
        for head in range(len(q)):
            answer = extractor.extract(q[head], k[head * len(k) // len(q)], scale, threshold, causal)
            slices.append((0, layer, head))
            for name, array in zip(arrays, answer):
                arrays[name].append(array)
    np.savez(out, slices=np.array(slices), **{name: np.concatenate(parts) for name, parts in arrays.items()})


def main():
    if sys.argv[1] == "serve":
        serve_side(sys.argv[2], float(sys.argv[3]), sys.argv[4] == "causal", sys.argv[5])
    else:
        # The clock starts after the imports: a session that is open already would not pay for them.
        begin, begin_cpu = time.perf_counter(), time.process_time()
        extract_file(sys.argv[2], float(sys.argv[3]), *sys.argv[4:6], int(sys.argv[6]))
        print(time.perf_counter() - begin, time.process_time() - begin_cpu)


if __name__ == "__main__":
    main()
