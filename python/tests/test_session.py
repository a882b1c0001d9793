# SPDX-License-Identifier: Apache-2.0
"""Keys that come piece by piece: the graph of the steps is the graph of the whole, to the last bit."""

import threading

import numpy as np
import pytest
from same import ag, assert_identical, random_qk


def steps(session, q, k, cuts):
    """The graphs of the rows of every piece, appended one after the other."""
    for begin, end in zip(cuts, cuts[1:]):
        session.append(k[..., begin:end, :])
        yield session.rows(q[..., begin:end, :])


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
@pytest.mark.parametrize("how", [{"threshold": 0.02}, {"threshold": 0.0, "top_k": 5}, {"threshold": 0.0, "mass": 0.5},
                                 {"threshold": 0.02, "window": 60}, {"threshold": 0.02, "alibi": "standard"}],
                         ids=["threshold", "top_k", "mass", "window", "alibi"])  # fmt: skip
def test_steps_joined_are_the_whole(dtype, how):
    q, k = random_qk(3, 6, 2, 600, dtype=dtype)
    cuts = [0, 300, 301, 302, 350, 511, 512, 513, *range(520, 601, 4)]
    with ag.Session(**how, stats="entropy") as session:
        joined = ag.concat(steps(session, q, k, cuts))
        assert len(session) == 600
    whole = ag.extract(q, k, **how, stats="entropy")
    assert_identical(joined, whole, sums=False)
    assert joined.metadata == whole.metadata


def test_sums_over_queries_differ_by_rounding_alone():
    q, k = random_qk(4, 2, 2, 200)
    with ag.Session(stats="columns") as session:
        joined = ag.concat(steps(session, q, k, [0, 50, 51, 200]))
    whole = ag.extract(q, k, stats="columns")
    assert_identical(joined, whole, sums=False)
    np.testing.assert_allclose(joined.columns(0, 1).received, whole.columns(0, 1).received, rtol=1e-12)


def test_torch_tensors_layouts_and_positions():
    torch = pytest.importorskip("torch")
    q, k = (torch.randn(2, 40, 4, 16, generator=torch.Generator().manual_seed(n)).bfloat16() for n in (1, 2))
    whole = ag.extract(q, k, layout="bshd")
    session = ag.Session(layout="bshd").append(k)
    row = session.rows(q[:, 7:8], position=7)
    assert row.metadata["query_offset"] == "7"
    for s in row.slices:
        want = whole.csr(s.layer, s.head, s.batch)
        begin, end = want.indptr[7:9]
        np.testing.assert_array_equal(row.csr(s.layer, s.head, s.batch).indices, want.indices[begin:end])


def test_a_step_packs_its_own_keys_alone():
    q, k = random_qk(5, 1, 1, 600, d=64)
    session = ag.Session()
    for i in range(500):
        session.append(k[:, i : i + 1])
        session.rows(q[:, i : i + 1])
    panel = 64 * 64 * 6  # of 64 keys at most, in the widest form
    assert 500 * 64 * 4 <= session.packed_bytes <= 500 * panel
    assert session.nbytes <= 1.5 * 500 * 64 * 4 + 64 * 512 * 6 + 1024


def test_drafts_are_forgotten():
    q, k = random_qk(6, 2, 2, 100)
    session = ag.Session().append(k[:, :60]).append(k[:, 10:30])
    assert session.common(k) == 60
    session.truncate(60).append(k[:, 60:])
    assert session.common(k) == 100
    assert not ag.extract(q, k).diff(session.rows(q))


def test_certified_decisions_keep_all_keys_of_a_window():
    q, k = random_qk(9, 2, 2, 1100, d=8)
    how = {"threshold": 0.05, "window": 100, "decision": "certified"}
    with ag.Session(**how) as session:
        joined = ag.concat(steps(session, q, k, [0, 900, 1050, 1100]))
        assert session.first_key == 0
    assert_identical(joined, ag.extract(q, k, **how), sums=False)


def test_what_does_not_fit_is_refused():
    q, k = random_qk(7, 2, 1, 20)
    session = ag.Session(window=10)
    with pytest.raises(ag.errors.ArgumentError, match="the session has no keys; append"):
        session.rows(q)
    session.append(k)
    with pytest.raises(ag.errors.DtypeError, match="k is f64, but the session keeps f32"):
        session.append(k.astype(np.float64))
    with pytest.raises(ag.errors.ShapeError, match=r"session keeps \[1, 1, N, 32\]"):
        session.append(k[..., :16])
    bad = k.copy()
    bad[0, 3, 5] = np.nan
    with pytest.raises(ag.errors.NonfiniteError, match="position 23, dimension 5"):
        session.append(bad)
    assert len(session) == 20
    for wrong in ({"window": 0}, {"threshold": "x"}, {"capacity": -1}, {"layout": "sbhd"}, {"stats": "all"}):
        with pytest.raises(ag.Error):
            ag.Session(**wrong)
    session.close()
    for use in (lambda: session.append(k), lambda: session.rows(q), lambda: len(session), session.__enter__):
        with pytest.raises(ag.errors.ArgumentError, match="the session is closed"):
            use()
    assert repr(session) == "<attngraph.Session: closed>"


def test_two_threads_are_told_and_nothing_is_mixed():
    q, k = random_qk(8, 4, 4, 3000)
    session = ag.Session().append(k)
    whole, found, busy = ag.extract(q, k), [], []

    def ask():
        for _ in range(3):
            try:
                found.append(session.rows(q))
            except ag.Error as error:
                assert error.status == "ATTNGRAPH_ERROR_BUSY"
                busy.append(error)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found and len(found) + len(busy) == 9
    for graph in found:
        assert not graph.diff(whole)
