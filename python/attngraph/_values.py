# SPDX-License-Identifier: Apache-2.0
"""Numbers, choices and names that callers hand in, as plain Python values; what is none of them is told by name."""

import operator
import os

from .errors import ArgumentError

_LARGEST = 2**63 - 1


def number(value, name):
    """A float: Python's, or a scalar of any library."""
    try:
        if isinstance(value, (str, bytes)):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        raise ArgumentError(f"{name} is {_shown(value)}; it is a number") from None


def integer(value, name, least=None):
    """An int that the library can hold; 3.0 is one, 3.5 and True are not."""
    found = _integer(value)
    if found is None:
        raise ArgumentError(f"{name} is {_shown(value)}; it is an integer")
    if not -_LARGEST <= found <= _LARGEST or (least is not None and found < least):
        bound = "between -2^63 and 2^63" if least is None else f"at least {least}, below 2^63"
        raise ArgumentError(f"{name} is {found}; it is {bound}")
    return found


def positive(value, name):
    """0 means "none" in C; in Python that is None, so 0 is a mistake."""
    found = _integer(value)
    if found is None or not 1 <= found <= _LARGEST:
        raise ArgumentError(f"{name} is {_shown(value)}; it is an integer, at least 1, or None")
    return found


def integers(values, name):
    """A list of ints, out of a sequence or array of any library."""
    return [integer(value, f"{name}[{place}]") for place, value in enumerate(_items(values, name))]


def chosen(values, name, among=None):
    """What `heads=` or `layers=` chooses, ascending and each once; None for None.

    One integer, any sequence or array of them, or a mask: a sequence or array of bool, one for each of `among` where
    those are known.
    """
    if values is None:
        return None
    items = _items(values, name) if _is_collection(values) else [values]
    if not items:
        raise ArgumentError(f"{name} is empty; leave it out for all {name}")
    if all(_is_bool(item) for item in items) and _is_collection(values):
        among = range(len(items)) if among is None else among
        if len(items) != len(among):
            raise ArgumentError(f"{name} is a mask of {len(items)} values; there are {len(among)} {name}")
        found = [label for label, wanted in zip(among, items) if wanted]
        if not found:
            raise ArgumentError(f"{name} is a mask that chooses nothing; leave it out for all {name}")
        return sorted(found)
    return sorted({integer(item, f"{name}[{place}]") for place, item in enumerate(items)})


def listed(values, name, of="texts"):
    """A list of whatever a caller gave in order; a single text is none."""
    if isinstance(values, (str, bytes)) or not hasattr(values, "__iter__"):
        raise ArgumentError(f"{name} is {_shown(values)}; it is a list of {of}")
    return list(values)


def kept(values):
    """What is looked at once for every layer: an iterator would be used up by the first."""
    return list(values) if hasattr(values, "__next__") else values


def one_of(value, name, *choices):
    if not any(isinstance(value, type(choice)) and value == choice for choice in choices):
        raise ArgumentError(f"{name} is {_shown(value)}; it is {', '.join(map(repr, choices[:-1]))} or {choices[-1]!r}")
    return value


def text(value, name):
    if not isinstance(value, str):
        raise ArgumentError(f"{name} is {_shown(value)}; it is a text")
    return value


def path(value):
    try:
        return os.fsdecode(value)
    except TypeError:
        raise ArgumentError(f"the path is {_shown(value)}; it is a text or an os.PathLike") from None


def _integer(value):
    if _is_bool(value) or isinstance(value, (str, bytes)):
        return None
    try:
        return operator.index(value)
    except (TypeError, ValueError, RuntimeError):
        pass
    try:
        found = int(value)
        return found if found == float(value) else None
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return None


def _is_bool(value):
    """Also a scalar array of a library: its index would be 0 or 1."""
    return isinstance(value, bool) or (
        getattr(value, "shape", None) == () and str(getattr(value, "dtype", "")) in ("bool", "torch.bool")
    )


def _is_collection(value):
    """Arrays without a dimension are numbers, though they have all the methods of a sequence."""
    return getattr(value, "shape", None) != () and (hasattr(value, "__len__") or hasattr(value, "__iter__"))


def _items(values, name):
    """The elements of a sequence, as Python's own numbers where an array can give them."""
    if isinstance(values, (str, bytes, dict)) or not _is_collection(values):
        raise ArgumentError(f"{name} is {_shown(values)}; it is a sequence or array of integers")
    if len(getattr(values, "shape", (0,))) > 1:
        raise ArgumentError(f"{name} is an array of shape {list(values.shape)}; it has one dimension")
    for convert in ("tolist", "to_pylist", "to_list"):  # NumPy, torch, JAX, CuPy, pandas; pyarrow; polars
        if hasattr(values, convert):
            return getattr(values, convert)()
    return list(values)


def _shown(value):
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
