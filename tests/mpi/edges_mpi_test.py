# SPDX-License-Identifier: Apache-2.0
"""Two ranks of examples/mpi give the graph that one process gives, and do what is missing when started again.

usage: edges_mpi_test.py MPIEXEC EDGES_MPI ATTNGRAPH FILE
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

mpiexec, program, command, data = sys.argv[1:]
# Open MPI: root is a person too in a container, and two ranks may share a core.
environment = {
    **os.environ,
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "OMPI_MCA_btl": "self,vader,tcp",
    "OMPI_MCA_btl_vader_single_copy_mechanism": "none",
}


def ran(arguments, **how):
    done = subprocess.run(arguments, text=True, capture_output=True, timeout=120, **how)
    assert done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


with tempfile.TemporaryDirectory() as folder:
    whole = os.path.join(folder, "whole.npz")
    ran([command, "extract", data, "--layers", "5", "-t", "0.05", "--causal", "-o", whole, "--quiet"])
    parts = Path(folder, "parts")
    parts.mkdir()
    ran([mpiexec, "-n", "2", program, data, "5", str(parts)], env=environment)
    joined = parts / "edges.npz"
    ran([command, "diff", whole, str(joined), "--band", "0"])
    files = sorted(parts.glob("part-*.npz"))
    assert len(files) > 4, files
    before = joined.read_bytes()
    kept = files[0].stat().st_mtime_ns
    files[3].unlink()
    ran([mpiexec, "-n", "2", program, data, "5", str(parts)], env=environment)
    assert joined.read_bytes() == before and files[0].stat().st_mtime_ns == kept
    print(f"{len(files)} parts of 2 ranks are the graph of one process")
