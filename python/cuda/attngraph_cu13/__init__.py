# SPDX-License-Identifier: Apache-2.0
"""The CUDA backends of attngraph, as a plugin that attngraph opens where this package stands beside it.

There is nothing to import: ``attngraph doctor`` says whether the plugin was found, and what it found.
"""
