# SPDX-License-Identifier: Apache-2.0
"""Numbers, choices and names that callers hand in, as plain Python values; what is none of them is told by name."""

import operator
import os

from .errors import ArgumentError

_LARGEST = 2**63 - 1


def number(value, name):
    """A float: Python's, or a scalar of any library."""
    try:
        if isinstance(value, (str, bytes)) or _is_bool(value):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        raise ArgumentError(f"{name} is {_shown(value)}; it is a number") from None


def integer(value, name, least=None):
    """An int that the library can hold; 3.0 is one, 3.5 and True are not."""
    found = integer_of(value)
    if found is None:
        raise ArgumentError(f"{name} is {_shown(value)}; it is an integer")
    if not -_LARGEST <= found <= _LARGEST or (least is not None and found < least):
        bound = "between -2^63 and 2^63" if least is None else f"at least {least}, below 2^63"
        raise ArgumentError(f"{name} is {found}; it is {bound}")
    return found


def positive(value, name):
    """0 means "none" in C; in Python that is None, so 0 is a mistake."""
    found = integer_of(value)
    if found is None or not 1 <= found <= _LARGEST:
        raise ArgumentError(f"{name} is {_shown(value)}; it is an integer, at least 1, or None")
    return found


def flag(value, name):
    """A bool: Python's, a scalar of any library, or 0 and 1. A text or None would count as one of them by chance."""
    found = bool(value) if _is_bool(value) else integer_of(value)
    if found not in (0, 1):
        raise ArgumentError(f"{name} is {_shown(value)}; it is True or False")
    return bool(found)


def span(value, name, form="it is a pair, where None leaves an end open"):
    """A pair of ints, where None leaves an end open: a tuple, list or array of two, a slice or range without a step."""
    ends = value
    if isinstance(value, (slice, range)):
        ends = (value.start, value.stop) if value.step in (None, 1) else ()
    elif is_collection(value) and not isinstance(value, (str, bytes, dict, set, frozenset)):
        ends = list(value)
    if not isinstance(ends, (tuple, list)) or len(ends) != 2:
        raise ArgumentError(f"{name} is {_shown(value)}; {form}")
    return tuple(None if end is None else integer(end, name) for end in ends)


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
    if not is_collection(values):
        return [integer(values, name)]
    items = _items(values, name)
    if not items:
        raise ArgumentError(f"{name} is empty; leave it out for all {name}")
    if all(_is_bool(item) for item in items):
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
    if isinstance(values, (str, bytes)) or not is_collection(values):
        raise ArgumentError(f"{name} is {_shown(values)}; it is a list of {of}")
    return list(values)


def kept(values):
    """What is looked at once for every layer: an iterator would be used up by the first."""
    return list(values) if hasattr(values, "__next__") else values


def one_of(value, name, *choices):
    if not any(isinstance(value, type(choice)) and value == choice for choice in choices):
        known = " or ".join(filter(None, [", ".join(map(repr, choices[:-1])), repr(choices[-1])]))
        raise ArgumentError(f"{name} is {_shown(value)}; it is {known}")
    return value


def text(value, name):
    if not isinstance(value, str):
        raise ArgumentError(f"{name} is {_shown(value)}; it is a text")
    return value


def device(value):
    """A text, or PyTorch's object, whose text is the same."""
    return str(value) if type(value).__module__ == "torch" else text(value, "device")


def path(value):
    try:
        found = os.fsdecode(value)
    except TypeError:
        raise ArgumentError(f"the path is {_shown(value)}; it is a text or an os.PathLike") from None
    if not found:
        raise ArgumentError("the path is empty")
    if "\0" in found:
        raise ArgumentError(f"the path is {_shown(found)}; it holds a NUL, where the system would cut it off")
    return found


def integer_of(value):
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


def is_collection(value):
    """Arrays without a dimension are numbers, though they have all the methods of a sequence."""
    return getattr(value, "shape", None) != () and hasattr(value, "__iter__")


def _items(values, name):
    """The elements of a sequence, as Python's own numbers where an array can give them."""
    if isinstance(values, (str, bytes, dict)) or not is_collection(values):
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
