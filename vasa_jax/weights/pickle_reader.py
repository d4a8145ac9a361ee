"""Pickled files read without their code: PyTorch's two formats and pickles of NumPy arrays.

A pickle names functions, and loading it calls them. Here the names are a short fixed list, each stands for a function
of this file, and any other name is refused. PyTorch is not needed.

Formats: the zip of `torch.save`, which has a pickle and one member per storage; the older one, five pickles in a row
and then the storages; and a bare pickle.
"""

import io
import math
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from vasa_jax.errors import InputError

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_LONGEST_PICKLE = 2**28  # bytes, without the storages of a zip
_STORAGES = {
    "FloatStorage": "<f4", "DoubleStorage": "<f8", "HalfStorage": "<f2", "BFloat16Storage": "<u2",
    "LongStorage": "<i8", "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "<i1", "ByteStorage": "<u1",
    "BoolStorage": "|b1",
}  # fmt: skip
_NUMBERS = "biuf"  # kinds of NumPy types that are read
_REMEDY = "download it again from its publisher, or convert it to safetensors where it is trusted"


class PickledObject:
    """What stands for an `argparse.Namespace`: its values under `fields`."""

    def __init__(self, *args: Any, **fields: Any):
        self.fields: dict[str, Any] = dict(fields)

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, dict):
            raise pickle.UnpicklingError("a namespace without names")
        self.fields = dict(state)


def read_pickle(path: str | Path) -> Any:
    """Reads a file: containers, plain values, NumPy arrays for tensors (bfloat16 widened to float32).

    InputError for what is damaged, and for a file that names anything outside of the list; nothing is run.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; give the path of a downloaded one")
    try:
        with open(path, "rb") as file:
            if zipfile.is_zipfile(file):
                file.seek(0)
                return _read_zip(file)
            file.seek(0)
            return _read_bare_or_legacy(file, path.stat().st_size)
    except _RefusedError as error:
        raise InputError(f"{path}: {error}; {_REMEDY}") from None
    except Exception as error:  # an untrusted file can fail anywhere in the standard library's readers
        fault = " ".join(f"{type(error).__name__}: {error}".split())[:120]
        raise InputError(f"{path}: damaged or no such format ({fault}); {_REMEDY}") from error


class _RefusedError(Exception):
    """Something in the file that is not read, in words."""


class _Storage(NamedTuple):
    kind: str
    key: str
    count: int
    first: int = 0  # of a view into a larger storage


class _Tensor(NamedTuple):
    """A tensor whose storage may not have been read yet."""

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class _Kind(str):
    """The name of a storage class."""


class _Array:
    """A NumPy array in the making: `_reconstruct` makes it, then its state comes."""

    def __init__(self, *ignored: Any):
        self.value: np.ndarray | None = None

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, fortran, data = state
        self.value = _array(data, dtype, shape, "F" if fortran else "C")


class _Dtype:
    """A NumPy type in the making; only numbers, so no array holds objects."""

    def __init__(self, code: str, *ignored: Any):
        self.code, self.order = str(code), "<"

    def __setstate__(self, state: tuple) -> None:
        if state[1] in ("<", ">"):
            self.order = state[1]

    def numpy(self) -> np.dtype:
        dtype = np.dtype(self.code)
        if dtype.kind not in _NUMBERS:
            raise _RefusedError(f"an array of type '{self.code}', which is not numbers")
        return dtype.newbyteorder(self.order)


def _array(data: Any, dtype: _Dtype, shape: Any, order: str = "C") -> np.ndarray:
    """Makes an array of exactly these bytes."""
    if not isinstance(data, (bytes, bytearray, str)) or not isinstance(dtype, _Dtype):
        raise _RefusedError("an array without plain numbers")
    # Python 2 wrote bytes as text.
    data = data.encode("latin1") if isinstance(data, str) else bytes(data)
    return np.frombuffer(data, dtype.numpy()).reshape(tuple(shape), order=order)


def _numpy_scalar(dtype: _Dtype, data: Any) -> Any:
    return _array(data, dtype, ())[()]


def _from_buffer(data: Any, dtype: _Dtype, shape: Any, order: str) -> np.ndarray:
    return _array(data, dtype, shape, order)


def _latin1(text: str, encoding: str = "latin1") -> bytes:
    """Stands for `codecs.encode`, by which protocol 2 writes bytes."""
    if encoding not in ("latin1", "latin-1"):
        raise _RefusedError(f"bytes written as '{encoding}'")
    return str(text).encode("latin1")


def _tensor(storage: _Storage, offset: int, size: Any, stride: Any, *ignored: Any) -> _Tensor:
    if not isinstance(storage, _Storage):
        raise _RefusedError("a tensor without a storage")
    return _Tensor(storage, int(offset), tuple(map(int, size)), tuple(map(int, stride)))


def _parameter(data: _Tensor, *ignored: Any) -> _Tensor:
    return data


def _path_text(*parts: str) -> str:
    return "/".join(map(str, parts)).replace("//", "/")


def _plain(*ignored: Any) -> None:
    raise _RefusedError("a call of a NumPy array's constructor")


_NAMES: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("argparse", "Namespace"): PickledObject,
    ("_codecs", "encode"): _latin1,
    ("numpy", "ndarray"): _plain,
    ("numpy", "dtype"): _Dtype,
}
_NAMES |= {(module, f"{kind}Path"): _path_text for module in ("pathlib", "pathlib._local")
           for kind in ("Posix", "Windows", "PurePosix", "PureWindows", "")}  # fmt: skip
for _core in ("numpy.core", "numpy._core"):
    _NAMES[f"{_core}.multiarray", "_reconstruct"] = _Array
    _NAMES[f"{_core}.multiarray", "scalar"] = _numpy_scalar
    _NAMES[f"{_core}.numeric", "_frombuffer"] = _from_buffer


class _Reader(pickle.Unpickler):
    def __init__(self, file: BinaryIO):
        super().__init__(file, encoding="latin1")

    def find_class(self, module: str, name: str) -> Any:
        if module in ("torch", "torch.storage") and name in _STORAGES:
            return _Kind(name)
        if (module, name) not in _NAMES:
            raise _RefusedError(f"asks for '{module}.{name}', which is not read (tensors and plain values are)")
        return _NAMES[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        if not isinstance(pid, tuple) or len(pid) not in (5, 6) or pid[0] != "storage" or not isinstance(pid[1], _Kind):
            raise _RefusedError("a reference that is not a storage of numbers")
        first = pid[5][1] if len(pid) == 6 and pid[5] is not None else 0
        return _Storage(str(pid[1]), str(pid[2]), int(pid[4]), int(first))


def _read_zip(file: BinaryIO) -> Any:
    with zipfile.ZipFile(file) as archive:
        members = {info.filename: info for info in archive.infolist()}
        found = [name for name in members if name == "data.pkl" or name.endswith("/data.pkl")]
        if len(found) != 1:
            raise _RefusedError(f"a zip with {len(found)} members data.pkl, not one of torch.save")
        prefix = found[0].removesuffix("data.pkl")
        if any(name.startswith(f"{prefix}code/") for name in members):
            raise _RefusedError("a TorchScript program, not a state dict")
        order = f"{prefix}byteorder"
        if order in members and archive.read(order).strip() != b"little":
            raise _RefusedError("written on a big-endian machine")
        if any(info.compress_type != zipfile.ZIP_STORED for info in members.values()):
            raise _RefusedError("a compressed zip, which torch.save does not write")
        if members[found[0]].file_size > _LONGEST_PICKLE:
            raise _RefusedError("a pickle of more than 256 MiB")
        content = _Reader(io.BytesIO(archive.read(found[0]))).load()
        arrays: dict[str, np.ndarray] = {}

        def values(storage: _Storage) -> np.ndarray:
            if storage.key not in arrays:
                member, dtype = f"{prefix}data/{storage.key}", np.dtype(_STORAGES[storage.kind])
                if member not in members:
                    raise _RefusedError(f"the storage '{storage.key}' is missing")
                if members[member].file_size != storage.count * dtype.itemsize:
                    raise _RefusedError(f"the storage '{storage.key}' has another size than its tensors say")
                arrays[storage.key] = _numbers(archive.read(member), storage.kind)
            return arrays[storage.key]

        return _resolved(content, values)


def _read_bare_or_legacy(file: BinaryIO, size: int) -> Any:
    first = _Reader(file).load()
    if not (isinstance(first, int) and first == _LEGACY_MAGIC):
        return _resolved(first, _no_storage)
    protocol, system = _Reader(file).load(), _Reader(file).load()
    if protocol != _LEGACY_PROTOCOL:
        raise _RefusedError(f"protocol {protocol} of torch.save, not {_LEGACY_PROTOCOL}")
    if not isinstance(system, dict) or not system.get("little_endian", False):
        raise _RefusedError("written on a big-endian machine")
    kinds: dict[str, str] = {}

    class Noting(_Reader):
        def persistent_load(self, pid: Any) -> _Storage:
            storage = super().persistent_load(pid)
            if kinds.setdefault(storage.key, storage.kind) != storage.kind:
                raise _RefusedError(f"the storage '{storage.key}' has two types")
            return storage

    content, keys = Noting(file).load(), _Reader(file).load()
    arrays: dict[str, np.ndarray] = {}
    for key in map(str, keys):
        if key not in kinds:
            raise _RefusedError(f"the storage '{key}' is of no known type")
        (count,) = struct.unpack("<q", file.read(8))
        bytes_left = size - file.tell()
        length = count * np.dtype(_STORAGES[kinds[key]]).itemsize
        if count < 0 or length > bytes_left:
            raise _RefusedError("the file is cut short")
        arrays[key] = _numbers(file.read(length), kinds[key])
    return _resolved(content, lambda storage: arrays[storage.key][storage.first :])


def _no_storage(storage: _Storage) -> np.ndarray:
    raise _RefusedError(f"a tensor of the storage '{storage.key}' without its file")


def _numbers(data: bytes, kind: str) -> np.ndarray:
    values = np.frombuffer(data, _STORAGES[kind])
    if kind == "BFloat16Storage":
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values


def _resolved(content: Any, values) -> Any:
    """Puts arrays in the place of tensors, and ordinary dicts in that of ordered ones."""
    if isinstance(content, _Tensor):
        return _strided(values(content.storage), content)
    if isinstance(content, _Array):
        if content.value is None:
            raise _RefusedError("an array without values")
        return content.value
    if isinstance(content, PickledObject):
        content.fields = _resolved(content.fields, values)
        return content
    if isinstance(content, dict):
        return {key: _resolved(item, values) for key, item in content.items()}
    if isinstance(content, (list, tuple)):
        return type(content)(_resolved(item, values) for item in content)
    if isinstance(content, (_Storage, _Dtype)) or callable(content):
        raise _RefusedError("something that is neither a tensor nor a plain value")
    return content


def _strided(values: np.ndarray, tensor: _Tensor) -> np.ndarray:
    """Returns the tensor's numbers, contiguous; never more than its storage has."""
    size, stride, offset = tensor.size, tensor.stride, tensor.offset
    if len(size) != len(stride) or offset < 0 or min((*size, *stride), default=0) < 0:
        raise _RefusedError(f"a tensor of size {size} and strides {stride}")
    count = math.prod(size)
    if count == 0:
        return np.zeros(size, values.dtype)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride))
    if last >= len(values) or count > len(values):
        raise _RefusedError(f"a tensor of size {size} outside of its storage")
    view = np.lib.stride_tricks.as_strided(
        values[offset:], size, tuple(step * values.itemsize for step in stride), writeable=False
    )
    return np.ascontiguousarray(view).reshape(size)
