# SPDX-License-Identifier: Apache-2.0
"""Answers as data sets: a folder of parts that is written by any number of processes, outlives each of them, and is read
a head at a time, here or by anything that reads Parquet."""

from ._extract import extract
from ._manifest import Entry, Stored
from ._read import Dataset, open
from ._write import Writer, create

__all__ = ["Dataset", "Entry", "Stored", "Writer", "create", "extract", "open"]
