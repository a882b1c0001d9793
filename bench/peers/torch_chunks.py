# SPDX-License-Identifier: Apache-2.0
"""PyTorch on the CPU, a chunk of rows at a time.

usage: torch_chunks.py QK.safetensors THRESHOLD causal|full f32|bf16

bf16: the product is made in bfloat16, as a model would; torch rounds its scores to bfloat16 too, so that the answer is
not the same one. The comparison says by how much.
"""

import sys

import torch

import safetensors_file
from serve import fastest, serve

CHUNKS = (32, 64, 128, 256, 512)


class Extractor:
    def __init__(self, n, chunk):
        self.chunk = chunk
        self.scores = torch.empty(chunk * n)
        self.keep = torch.empty(chunk * n, dtype=torch.bool)
        self.above_diagonal = torch.triu(torch.full((chunk, chunk), -torch.inf), 1)

    def rows(self, q, kt, begin, end, threshold, causal):
        n = end if causal else kt.shape[1]
        rows = end - begin
        scores = self.scores[: rows * n].view(rows, n)
        if q.dtype == torch.float32:
            torch.mm(q[begin:end], kt[:, :n], out=scores)
        else:
            scores.copy_(q[begin:end] @ kt[:, :n])
        if causal:
            scores[:, begin:] += self.above_diagonal[:rows, :rows]
        top = scores.amax(dim=1, keepdim=True)
        scores.sub_(top).exp_()
        total = scores.sum(dim=1)
        keep = self.keep[: rows * n].view(rows, n)
        torch.ge(scores, (threshold * total)[:, None], out=keep)
        places = torch.nonzero(keep.view(-1)).view(-1)
        row = torch.div(places, n, rounding_mode="floor")
        weights = scores.view(-1)[places] / total[row]
        return torch.bincount(row, minlength=rows), (places - row * n).to(torch.int32), weights

    def extract(self, q, kt, scale, threshold, causal, first_row=0):
        q = q * scale
        blocks = [
            self.rows(q, kt, begin, min(begin + self.chunk, len(q)), threshold, causal)
            for begin in range(first_row, len(q), self.chunk)
        ]
        counts, keys, weights = (torch.cat(part) for part in zip(*blocks))
        offsets = torch.zeros(len(counts) + 1, dtype=torch.int64)
        torch.cumsum(counts, 0, out=offsets[1:])
        return offsets.numpy(), keys.numpy(), weights.numpy()


def main():
    torch.set_num_threads(1)
    q, k, scale = safetensors_file.read_qk(sys.argv[1])
    threshold, causal = float(sys.argv[2]), sys.argv[3] == "causal"
    dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[sys.argv[4]]
    q, kt = torch.from_numpy(q).to(dtype), torch.from_numpy(k).to(dtype).t()
    with torch.inference_mode():
        extractors = {chunk: Extractor(len(k), chunk) for chunk in CHUNKS}
        first_row = max(0, len(q) - 1024)
        chunk = fastest(CHUNKS, lambda c: extractors[c].extract(q, kt, scale, threshold, causal, first_row))
        serve(
            f"torch {torch.__version__.split('+')[0]}, {torch.backends.cpu.get_cpu_capability()}, {chunk} rows a chunk",
            lambda: extractors[chunk].extract(q, kt, scale, threshold, causal),
        )


if __name__ == "__main__":
    main()
