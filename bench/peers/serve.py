# SPDX-License-Identifier: Apache-2.0
"""The loop of a peer that compare.py started: the same commands as bench/bench_worker.cpp."""

import json
import resource
import sys
import time

import numpy as np


def blas_kernel():
    """Which kernel the OpenBLAS of this process chose for the processor, or "none loaded"."""
    import ctypes
    import re

    kernels = []
    with open("/proc/self/maps", encoding="utf-8") as maps:
        libraries = sorted(set(re.findall(r"(/\S*openblas\S*)", maps.read())))
    for library in libraries:
        loaded = ctypes.CDLL(library)
        for name in ("scipy_openblas_get_corename64_", "openblas_get_corename64_", "openblas_get_corename"):
            if hasattr(loaded, name):
                function = getattr(loaded, name)
                function.restype = ctypes.c_char_p
                kernels.append(function().decode())
                break
    return "/".join(dict.fromkeys(kernels)) or "none loaded"


def fastest(candidates, trial):
    """The candidate whose trial takes least time, of three turns: how an expert would tune."""
    times = {candidate: [] for candidate in candidates}
    for _ in range(3):
        for candidate in candidates:
            begin = time.process_time()
            trial(candidate)
            times[candidate].append(time.process_time() - begin)
    return min(candidates, key=lambda candidate: min(times[candidate]))


def serve(facts, run):
    """run() returns (offsets int64 [N + 1], keys int32 [E], weights float32 [E])."""
    answer = None

    def reply(message):
        print(json.dumps(message), flush=True)

    reply({"facts": facts})
    for line in sys.stdin:
        command, _, argument = line.strip().partition(" ")
        if command == "run":
            answer = None
            begin, begin_cpu = time.perf_counter(), time.process_time()
            answer = run()
            seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - begin_cpu
            reply({"seconds": seconds, "cpu_seconds": cpu_seconds, "edges": int(answer[0][-1])})
        elif command == "save":
            for name, array in zip(("offsets", "keys", "weights"), answer):
                np.save(f"{argument}.{name}.npy", array)
            reply({})
        elif command == "peak":
            reply({"peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024})
        else:
            raise SystemExit(f"{sys.argv[0]}: unknown command {command!r}")
