# SPDX-License-Identifier: Apache-2.0
"""What can go wrong, one exception type per status of the C library.

Every type derives from `Error` and from the built-in exception that a Python programmer would expect, so that
``except ValueError`` and ``except attngraph.Error`` both work.
"""

from . import _native


class Error(Exception):
    """Base of everything that attngraph raises. `status` is the name of the library's status."""

    status = "ATTNGRAPH_ERROR_INTERNAL"


class ArgumentError(Error, ValueError):
    """A value that no call accepts."""


class ShapeError(Error, ValueError):
    """Shapes that do not fit together."""


class DtypeError(Error, TypeError):
    """An element type that is not supported here."""


class NonfiniteError(Error, ValueError):
    """NaN or infinity in the data; the message says where."""


class RangeError(Error, ValueError):
    """Finite data, but scores beyond what can be computed."""


class FormatError(Error, ValueError):
    """A broken file."""


class UnsupportedError(Error, ValueError):
    """Valid, but not supported."""


class NotFoundError(Error, OSError, LookupError):
    """A file, tensor, slice, layer or head that is not there."""


class ColumnNotFoundError(NotFoundError, KeyError):
    """A column that a table does not have; a KeyError, as tables raise it."""

    __str__ = Exception.__str__  # KeyError shows quotes round its message


class LimitError(Error, ValueError):
    """A limit set by the caller, with the number needed."""


class CapacityError(Error, BufferError):
    """A buffer that is too small, with the size needed."""


class OutOfMemoryError(Error, MemoryError):
    """No host memory left."""


class DeviceOutOfMemoryError(Error, MemoryError):
    """No device memory left."""


class NoDeviceError(Error, RuntimeError):
    """The backend asked for cannot run on this machine; the message says why."""


class DeviceLostError(Error, RuntimeError):
    """The device failed."""


class ForkedError(Error, RuntimeError):
    """A device context used after fork()."""


class WriteError(Error, OSError):
    """Reading or writing failed."""


class NoSpaceError(Error, OSError):
    """No space left on the disk."""


class CancelledError(Error, RuntimeError):
    """Stopped half way. After Ctrl-C it is KeyboardInterrupt that is raised."""


class BusyError(Error, RuntimeError):
    """The object is in use by another thread."""


class InternalError(Error, RuntimeError):
    """A bug in the library; please report the message."""


class MissingPackageError(Error, ImportError):
    """An optional package is not installed; the message says what to install."""

    status = "ATTNGRAPH_ERROR_UNSUPPORTED"


# By number of the status in attngraph.h.
_BY_STATUS = [
    Error,
    ArgumentError,
    ShapeError,
    DtypeError,
    NonfiniteError,
    RangeError,
    FormatError,
    UnsupportedError,
    NotFoundError,
    LimitError,
    CapacityError,
    OutOfMemoryError,
    DeviceOutOfMemoryError,
    NoDeviceError,
    DeviceLostError,
    ForkedError,
    WriteError,
    NoSpaceError,
    CancelledError,
    BusyError,
    InternalError,
]
for _number, _type in enumerate(_BY_STATUS[1:], start=1):
    _type.status = _native.status_name(_number)
_native.set_error_types(_BY_STATUS)
