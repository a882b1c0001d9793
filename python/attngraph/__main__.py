# SPDX-License-Identifier: Apache-2.0
"""``python -m attngraph``: the command that comes with the package."""

import os
import sys

command = os.path.join(os.path.dirname(__file__), "bin", "attngraph")
os.execv(command, ["attngraph", *sys.argv[1:]])
