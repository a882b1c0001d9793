# SPDX-License-Identifier: Apache-2.0
"""Work on queries and keys of a GPU beside the model that made them, which goes on meanwhile."""

from __future__ import annotations

import collections
from concurrent.futures import ThreadPoolExecutor

_MOST = 4  # layers whose queries and keys are held for work that is not done


class Beside:
    """One thread that works in the order in which it was given things to do. What fails there is raised by a later `do` or
    by `wait`, in the thread that runs the model; what has not begun by then is not done."""

    def __init__(self):
        self._pool = None
        self._pending = collections.deque()
        self._streams = {}  # device: the stream that the thread works after

    def do(self, device, work):
        """Call work(stream) on a stream of a CUDA device that comes after what is queued there now."""
        import torch

        while len(self._pending) >= _MOST:
            self._take()
        ready = torch.cuda.Event()
        ready.record(torch.cuda.current_stream(device))
        if device not in self._streams:
            self._streams[device] = torch.cuda.Stream(device)
        stream = self._streams[device]

        def after():
            stream.wait_event(ready)
            with torch.cuda.stream(stream):
                work(stream)

        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="attngraph")
        self._pending.append(self._pool.submit(after))

    def wait(self):
        """Until all is done."""
        while self._pending:
            self._take()

    def drop(self):
        """Until nothing runs, whatever became of it."""
        pending, self._pending = self._pending, collections.deque()
        for one in pending:
            if not one.cancel():
                one.exception()

    def end(self):
        """No more work: the thread ends."""
        self.drop()
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None

    def _take(self):
        try:
            self._pending.popleft().result()
        except BaseException:
            self.drop()
            raise
