# SPDX-License-Identifier: Apache-2.0
"""Tensors of ggml, as llama.cpp hands them to its evaluation callback, read through ctypes.

``struct ggml_tensor`` is public but not promised, so `Library.check` holds the mirror below to what ggml's own functions
say of a live tensor before anything is read through it. Operations are known by name: their numbers change.
"""

import ctypes

import numpy as np

from .errors import UnsupportedError

_FLOAT32, _FLOAT16, _Q8_0, _BFLOAT16 = 0, 1, 8, 30  # enum ggml_type; the numbers stand in GGUF files and stay
_Q8_0_BLOCK = np.dtype([("d", "<f2"), ("q", "i1", 32)])


class TensorStruct(ctypes.Structure):
    """struct ggml_tensor: ne in elements from the innermost dimension on, nb the strides in bytes."""


TensorStruct._fields_ = [
    ("type", ctypes.c_int),
    ("buffer", ctypes.c_void_p),
    ("ne", ctypes.c_int64 * 4),
    ("nb", ctypes.c_size_t * 4),
    ("op", ctypes.c_int),
    ("op_params", ctypes.c_float * 16),
    ("flags", ctypes.c_int32),
    ("src", ctypes.POINTER(TensorStruct) * 10),
    ("view_src", ctypes.POINTER(TensorStruct)),
    ("view_offs", ctypes.c_size_t),
    ("data", ctypes.c_void_p),
    ("name", ctypes.c_char * 64),
    ("extra", ctypes.c_void_p),
    ("padding", ctypes.c_char * 8),
]

_SIGNATURES = {
    "ggml_get_name": (ctypes.c_char_p, [ctypes.c_void_p]),
    "ggml_get_data": (ctypes.c_void_p, [ctypes.c_void_p]),
    "ggml_nelements": (ctypes.c_int64, [ctypes.c_void_p]),
    "ggml_nbytes": (ctypes.c_size_t, [ctypes.c_void_p]),
    "ggml_op_desc": (ctypes.c_char_p, [ctypes.c_void_p]),
    "ggml_type_name": (ctypes.c_char_p, [ctypes.c_int]),
    "ggml_tensor_overhead": (ctypes.c_size_t, []),
    "ggml_backend_buffer_is_host": (ctypes.c_bool, [ctypes.c_void_p]),
    "ggml_backend_tensor_get": (None, [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t]),
}
_OBJECT_BYTES = 32  # struct ggml_object, which ggml_tensor_overhead counts too


class Library:
    """The functions of ggml that a loaded llama.cpp brings along."""

    def __init__(self, loaded):
        for name, (result, arguments) in _SIGNATURES.items():
            try:
                # A function object of our own: another user of the library may have declared other types.
                function = ctypes.CFUNCTYPE(result, *arguments)((name, loaded))
            except AttributeError:
                raise UnsupportedError(f"this llama.cpp has no {name}; attention nodes cannot be read") from None
            setattr(self, name, function)
        size = self.ggml_tensor_overhead() - _OBJECT_BYTES
        if size != ctypes.sizeof(TensorStruct):
            raise UnsupportedError(
                f"struct ggml_tensor has {size} bytes in this llama.cpp and {ctypes.sizeof(TensorStruct)} in those that "
                "attngraph knows; install another llama-cpp-python"
            )
        self._checked = False

    def tensor(self, address):
        """The `Tensor` at an address; the first one is checked."""
        tensor = Tensor(self, ctypes.cast(address, ctypes.POINTER(TensorStruct)))
        if not self._checked:
            self.check(tensor)
            self._checked = True
        return tensor

    def check(self, tensor):
        """Fail unless the mirror says of a tensor what ggml says."""
        c, at = tensor.c, ctypes.addressof(tensor.c)
        elements = int(np.prod([int(n) for n in c.ne], dtype=object))
        same = (
            c.name == self.ggml_get_name(at)
            and c.data == self.ggml_get_data(at)
            and all(n > 0 for n in c.ne)
            and elements == self.ggml_nelements(at)
            and 0 <= c.op < 1000
            and bool(self.ggml_type_name(c.type))
        )
        if same and c.type == _FLOAT32:
            same = 4 + sum((n - 1) * s for n, s in zip(c.ne, c.nb)) == self.ggml_nbytes(at)
        if not same:
            raise UnsupportedError(
                "struct ggml_tensor of this llama.cpp is not the one that attngraph knows; install another "
                "llama-cpp-python"
            )


class Tensor:
    """One tensor of a graph that is being computed; valid during the callback."""

    __slots__ = ("_library", "_pointer", "c")

    def __init__(self, library, pointer):
        self._library = library
        self._pointer = pointer
        self.c = pointer.contents

    @property
    def address(self):
        return ctypes.addressof(self.c)

    @property
    def name(self):
        return self.c.name.decode("utf-8", "replace")

    @property
    def op(self):
        """MUL_MAT, FLASH_ATTN_EXT, SOFT_MAX, ...; TANH for the unary operation of that name."""
        return self._library.ggml_op_desc(self.address).decode()

    @property
    def shape(self):
        """From the outermost dimension in, as NumPy counts."""
        return tuple(int(n) for n in reversed(self.c.ne))

    @property
    def type_name(self):
        return self._library.ggml_type_name(self.c.type).decode()

    def source(self, i):
        pointer = self.c.src[i]
        return Tensor(self._library, pointer) if pointer else None

    def parameter(self, i):
        return float(self.c.op_params[i])

    @property
    def stays(self):
        """Whether its memory is a leaf's (a cache, an input), which later nodes of the graph do not reuse."""
        base = self.c
        while base.view_src:
            base = base.view_src.contents
        return not any(base.src)

    def read(self, rows=None, copy=False):
        """The data as an array [ne3, ne2, ne1, ne0]: a view of host memory, or a copy.

        rows: only so many of dimension 1. Quantised data come as float32, bfloat16 as its bits (see `is_bfloat16`).
        """
        kind = {_FLOAT32: np.float32, _FLOAT16: np.float16, _BFLOAT16: np.uint16, _Q8_0: _Q8_0_BLOCK}.get(self.c.type)
        if kind is None:
            raise UnsupportedError(
                f'{self.name} is {self.type_name}; attention can be read from f32, f16, bf16 and q8_0: cache_type="f16"'
            )
        kind = np.dtype(kind)
        shape, strides = list(self.shape), tuple(int(n) for n in reversed(self.c.nb))
        if kind == _Q8_0_BLOCK:
            if shape[-1] % 32:
                raise UnsupportedError(
                    f"{self.name} has heads of {shape[-1]} numbers in q8_0, whose blocks of 32 belong to several heads; "
                    'take cache_type="f16"'
                )
            shape[-1] //= 32
        if rows is not None:
            shape[2] = min(rows, shape[2])
        size = self._library.ggml_nbytes(self.address)
        buffer = (self.c.view_src.contents if self.c.view_src else self.c).buffer
        if buffer and not self._library.ggml_backend_buffer_is_host(buffer):
            memory = np.empty(size, np.uint8)
            self._library.ggml_backend_tensor_get(self.address, memory.ctypes.data, 0, size)
            copy = False
        else:
            memory = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(self.c.data))
        array = np.ndarray(shape, kind, memory, strides=strides)
        if kind == _Q8_0_BLOCK:
            return from_q8_0(array)
        return array.copy() if copy else array

    @property
    def is_bfloat16(self):
        return self.c.type == _BFLOAT16

    def rounded_like(self, query):
        """A query of float32 as the dot product with this key tensor sees it.

        ggml multiplies in the type of the keys: queries are brought to it first. Float32 arrays pass through; for
        quantised keys they become what their blocks of eight bits hold.
        """
        if self.c.type == _FLOAT16:
            return query.astype(np.float16)
        if self.c.type == _BFLOAT16:
            return to_bfloat16(query)
        if self.c.type == _Q8_0:
            return through_q8_0(query)
        return np.ascontiguousarray(query)


def from_q8_0(blocks):
    """[..., n] blocks of 32 eight-bit numbers with one factor as float32 [..., 32 n]."""
    values = blocks["q"].astype(np.float32) * blocks["d"].astype(np.float32)[..., None]
    return values.reshape(*blocks.shape[:-1], 32 * blocks.shape[-1])


def through_q8_0(values):
    """What is left of float32 values after ggml has quantised them to Q8_0."""
    blocks = np.ascontiguousarray(values, np.float32).reshape(*values.shape[:-1], -1, 32)
    factor = np.abs(blocks).max(-1, keepdims=True) / np.float32(127)
    inverse = np.divide(np.float32(1), factor, out=np.zeros_like(factor), where=factor > 0)
    return (np.rint(blocks * inverse) * factor.astype(np.float16).astype(np.float32)).reshape(values.shape)


def to_bfloat16(values):
    """The bits of float32 values rounded to bfloat16, to nearest even."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(values), np.uint16(0x7FC0), rounded)
