# SPDX-License-Identifier: Apache-2.0
"""What callers hand in, as the views that the library reads: arrays of any kind, and one or many layers of them."""

import numpy as np

from . import _native, _values
from .errors import ArgumentError, DtypeError, ShapeError

_CUDA = 2  # DLPack's number of the device type
_DEFAULT_STREAM = 1  # DLPack's number of CUDA's legacy default stream


def tensor(array, name):
    """A view of an array of any library, without a copy where its memory can be described by element strides.

    Python lists become float64. NumPy arrays in foreign byte order, and those whose strides are no multiple of the
    element size (fields of a structured array), are copied: neither DLPack nor the library can describe them.
    """
    if isinstance(array, _native.Tensor):
        return array
    if getattr(array, "requires_grad", False):
        array = array.detach()
    if hasattr(array, "resolve_neg"):
        array = array.resolve_neg()  # of torch: a view whose numbers stand with the other sign, which DLPack would drop
    if isinstance(array, np.ma.MaskedArray):
        raise DtypeError(f"{name} is a masked array, whose mask would be lost; give the data and mask= apart")
    _refuse_strangers(array, name)
    if not isinstance(array, np.ndarray) and not hasattr(array, "__dlpack__"):
        try:
            array = np.asarray(array)
        except ValueError as error:
            raise ShapeError(f"{name} is no rectangular array: {error}") from None
    if isinstance(array, np.ndarray):
        return _numpy_tensor(array, name)
    return _native.Tensor(_handed_over(array), name)


def _refuse_strangers(array, name):
    """What has a shape and a type like an array, but not one number after the other."""
    if hasattr(array, "todense") or str(getattr(array, "layout", "")).startswith("torch.sparse"):
        how = "toarray" if hasattr(array, "toarray") else "to_dense" if hasattr(array, "to_dense") else "todense"
        raise DtypeError(f"{name} is a sparse {type(array).__name__}, in which what is not stored is 0; give {name}.{how}()")
    if getattr(array, "is_quantized", False):
        raise DtypeError(f"{name} is quantised; give {name}.dequantize()")
    if getattr(array, "is_nested", False):
        raise ShapeError(f"{name} is a nested tensor; give a padded one, with key_lengths=")
    if getattr(array, "is_meta", False):
        raise DtypeError(f"{name} is on the device 'meta', and has no numbers")


def _handed_over(array):
    """What the library gets of an array. On a CUDA device it is handed over on the default stream, on which the library
    waits: what still computes the array on another stream is then waited for."""
    try:
        kind, _ = array.__dlpack_device__()
    except Exception:  # no such method, or a device that DLPack has no number for: the library says what it misses
        return array
    return array.__dlpack__(stream=_DEFAULT_STREAM) if kind == _CUDA else array


def _numpy_tensor(array, name):
    dtype = array.dtype
    if dtype.name == "bfloat16":  # ml_dtypes; NumPy refuses to export what it does not know itself
        return _native.Tensor(array.view(np.uint16), name, as_bfloat16=True)
    if dtype.kind not in "fbiu" or (dtype.kind == "f" and dtype.itemsize > 8):
        raise DtypeError(f"{name} is an array of {dtype}; it may be float16, bfloat16, float32 or float64")
    if not dtype.isnative:
        array = array.astype(dtype.newbyteorder("="))
    if any(stride % array.itemsize for stride in array.strides):
        array = np.ascontiguousarray(array)
    return _native.Tensor(array, name)


def numbers(array, name):
    """As tensor(), but integers (a matrix of 0 and 1, say) become float64."""
    _refuse_strangers(array, name)
    if isinstance(array, np.ma.MaskedArray):
        return tensor(array, name)  # which refuses it
    if hasattr(array, "double") and str(getattr(array, "dtype", "")).startswith(("torch.int", "torch.uint", "torch.bool")):
        array = array.double()
    if isinstance(array, np.ndarray) or not (hasattr(array, "__dlpack__") or isinstance(array, _native.Tensor)):
        try:
            array = np.asarray(array)
        except ValueError as error:
            raise ShapeError(f"{name} is no rectangular array: {error}") from None
        if array.dtype.kind in "biu":
            array = array.astype(np.float64)
    return tensor(array, name)


def nested(rows):
    """A nested list as an array of float64; rows may be arrays of any library."""
    array = _native.floats_of(rows)
    if array is not None:
        return array
    try:
        return np.asarray(rows, dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise ShapeError(f"attn is no rectangular matrix of numbers: {error}") from None


def is_array(value):
    """Whether a value is an array of some library, not a Python list or number."""
    return isinstance(value, _native.Tensor) or hasattr(value, "__dlpack__") or hasattr(value, "__array__")


def layers_of(value, name, stacked_ndim):
    """Split what may be one layer or many into ``{layer: array}``; None when it is one.

    Many are: a dict, a list or tuple of arrays (None where a layer has none), and an array with one more dimension
    (`stacked_ndim`) than a layer can have.
    """
    if isinstance(value, dict):
        return {_values.integer(layer, "layer", least=0): array for layer, array in value.items()}
    if isinstance(value, (list, tuple)):
        members = [member for member in value if member is not None]
        if members and all(is_array(member) and _dimensions(member, name) >= 2 for member in members):
            return {layer: member for layer, member in enumerate(value) if member is not None}
        return None
    if is_array(value) and _dimensions(value, name) == stacked_ndim:
        whole = tensor(value, name)
        return {layer: whole.at(layer) for layer in range(whole.shape[0])}
    return None


def _dimensions(array, name):
    """Also of objects that have no shape of their own, only __dlpack__."""
    shape = getattr(array, "shape", None)
    return len(tensor(array, name).shape if shape is None else shape)


def chosen_layers(available, layers):
    """The layers asked for, ascending; all of them for None."""
    known = sorted(available)
    chosen = known if layers is None else _values.chosen(layers, "layers", known)
    for layer in chosen:
        if layer not in available:
            raise ArgumentError(f"there is no layer {layer}; there are {_listed(known)}")
    return chosen


def of_layer(value, layer, many):
    """A parameter's value for one layer: dicts hold one per layer, and so do lists where there are many layers."""
    if isinstance(value, dict):
        return value.get(layer)
    if many and isinstance(value, (list, tuple)):
        if not 0 <= layer < len(value):
            raise ArgumentError(f"a list of {len(value)} values has none for layer {layer}; a dict names layers")
        return value[layer]
    return value


def _listed(values):
    head = ", ".join(str(value) for value in values[:8])
    return head if len(values) <= 8 else f"{head}, ... {values[-1]}"
