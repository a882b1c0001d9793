# SPDX-License-Identifier: Apache-2.0
"""Where calls run: contexts that are kept from one call to the next, with the memory that they keep on a GPU."""

from __future__ import annotations

import atexit
import contextlib
import os
import threading

from . import _native

_lock = threading.Lock()
_idle = {}  # device: contexts that no call uses; each serves one call at a time


@contextlib.contextmanager
def on(device):
    """A context of a device ("auto", "cpu", "cuda:0"), of this call alone until it ends."""
    with _lock:
        kept = _idle.get(device)
        context = kept.pop() if kept else None
    if context is None:
        context = _native.Context(device)
    try:
        yield context
    finally:
        with _lock:
            _idle.setdefault(device, []).append(context)


def release_memory() -> None:
    """Give back what is kept on CUDA devices for the next call: up to `workspace_bytes` of each device's memory, and pinned
    memory for the answer. The next call takes it anew, which costs some milliseconds. Captures and sessions that are still
    there keep theirs.

    Examples
    --------
    >>> import attngraph as ag
    >>> ag.release_memory()
    """
    with _lock:
        _idle.clear()


def _new_lock():
    """In a child of fork(): another thread of the parent may have held it."""
    global _lock
    _lock = threading.Lock()


atexit.register(release_memory)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_lock)
