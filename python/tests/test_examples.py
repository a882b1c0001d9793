# SPDX-License-Identifier: Apache-2.0
"""The example of every docstring runs and says what it shows. A line marked NEEDS(package) is left out without it."""

import doctest
import importlib.util
import inspect
import re

import pytest

import attngraph as ag

DOCUMENTED = {f"ag.{name}": getattr(ag, name) for name in ag.__all__ if callable(getattr(ag, name))}
DOCUMENTED |= {
    f"Graph.{name}": value
    for kind in reversed(ag.Graph.__mro__[:-1])
    for name, value in vars(kind).items()
    if not name.startswith("_") and (callable(value) or isinstance(value, property))
}
DOCUMENTED |= {f"{name}.{function}": getattr(getattr(ag, name), function) for name, function in (
    ("dataset", "create"), ("dataset", "extract"), ("llama_cpp", "capture"), ("vllm_hook", "read"),
)}  # fmt: skip
RECORDS = {name for name in DOCUMENTED if isinstance(DOCUMENTED[name], type) and issubclass(DOCUMENTED[name], tuple)}
WITHOUT_EXAMPLE = RECORDS | {"ag.Error", "Graph.tokens", "Graph.metadata"}


@pytest.mark.parametrize("name", sorted(DOCUMENTED.keys() - WITHOUT_EXAMPLE))
def test_docstring(name):
    value = DOCUMENTED[name]
    text = inspect.getdoc(value.fget if isinstance(value, property) else value)
    assert text and ">>>" in text, f"{name} shows no example"
    for package in set(re.findall(r"\+NEEDS\((\w+)\)", text)):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    text = re.sub(r" *# doctest: \+NEEDS\(\w+\)", "", text)
    test = doctest.DocTestParser().get_doctest(text, {}, name, None, None)
    said = []
    doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test, out=said.append)
    assert not said, "".join(said)


def test_every_public_function_is_documented():
    assert not [name for name, value in DOCUMENTED.items() if not inspect.getdoc(value)]
