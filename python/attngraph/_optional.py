# SPDX-License-Identifier: Apache-2.0
"""Packages that are only needed for what they are asked for."""

import importlib

from .errors import MissingPackageError


def optional(module, what, package=None):
    """Import a module, or say what to install for `what`."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = package or module.partition(".")[0]
        raise MissingPackageError(f"{what} needs {package}, which cannot be imported ({error}); pip install {package}")
