# SPDX-License-Identifier: Apache-2.0
"""Graphs that are the same to the last bit."""

import numpy as np

import attngraph as ag


def assert_identical(got, want, sums=True, report=True):
    assert [tuple(s) for s in got.slices] == [tuple(s) for s in want.slices]
    for s in want.slices:
        where = (s.layer, s.head, s.batch)
        for name in ("csr", "rows", *(["columns"] if sums else [])):
            for a, b in zip(getattr(got, name)(*where), getattr(want, name)(*where)):
                np.testing.assert_array_equal(a, b)
                assert not hasattr(a, "dtype") or a.dtype == b.dtype
    names = ("eps", "borderline", "empty_rows", "rows_fp64", "skipped_nonfinite")
    for name in names if report else ():
        assert getattr(got.report, name) == getattr(want.report, name), name
    assert got.labels() == want.labels()


def random_qk(seed, heads, key_heads, n, d=32, dtype=np.float32):
    rng = np.random.default_rng(seed)
    q, k = (1.5 * rng.standard_normal((h, n, d)).astype(dtype) for h in (heads, key_heads))
    return q, k


__all__ = ["ag", "assert_identical", "random_qk"]
