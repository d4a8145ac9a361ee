"""Files as `torch.save` writes them, made without PyTorch: the zip format and the older one."""

import contextlib
import io
import itertools
import pickle
import struct
import sys
import types
import zipfile
from collections import OrderedDict

import numpy as np

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
STORAGES = {
    "f4": "FloatStorage", "f8": "DoubleStorage", "f2": "HalfStorage", "i8": "LongStorage", "i4": "IntStorage",
    "b1": "BoolStorage", "u2": "BFloat16Storage",
}  # fmt: skip


class Storage:
    """Stands for a storage of PyTorch: `values` are its numbers, `kind` the class it is of."""

    def __init__(self, values, key):
        self.values, self.kind, self.key = values, STORAGES[values.dtype.str[1:]], key


class Tensor:
    """Any view of a storage."""

    def __init__(self, storage, offset, size, stride):
        self.parts = (storage, offset, tuple(size), tuple(stride))

    def __reduce__(self):
        return sys.modules["torch._utils"]._rebuild_tensor_v2, (*self.parts, False, OrderedDict())


def tensors(arrays):
    """{name: array} to {name: Tensor}, each with a storage of its own; unsigned 16-bit counts as bfloat16.

    Also of dicts within dicts; what is no array stays.
    """
    numbers = itertools.count()

    def made(value):
        if isinstance(value, dict):
            return OrderedDict((name, made(inner)) for name, inner in value.items())
        if not isinstance(value, np.ndarray):
            return value
        array = np.ascontiguousarray(value).reshape(value.shape)
        strides = tuple(step // array.itemsize for step in array.strides)
        return Tensor(Storage(array.reshape(-1), str(next(numbers))), 0, array.shape, strides)

    return made(arrays)


def write_zip(path, content, prefix="archive", members=(), compression=zipfile.ZIP_STORED):
    """The format of today: a pickle and a member per storage, in a folder that is called anything."""
    pickled, storages = _pickled(content, legacy=False)
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr(f"{prefix}/data.pkl", pickled)
        archive.writestr(f"{prefix}/byteorder", "little")
        for storage in storages.values():
            archive.writestr(f"{prefix}/data/{storage.key}", storage.values.tobytes())
        for name, data in members:
            archive.writestr(f"{prefix}/{name}", data)


def write_legacy(path, content):
    """The format before PyTorch 1.6: five pickles in a row, then the storages."""
    pickled, storages = _pickled(content, legacy=True)
    system = {"protocol_version": PROTOCOL, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    with open(path, "wb") as file:
        for value in (MAGIC, PROTOCOL, system):
            file.write(pickle.dumps(value, protocol=2))
        file.write(pickled)
        file.write(pickle.dumps(list(storages), protocol=2))
        for storage in storages.values():
            file.write(struct.pack("<q", storage.values.size) + storage.values.tobytes())


def _pickled(content, legacy):
    storages = {}

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            if not isinstance(value, Storage):
                return None
            storages[value.key] = value
            kind = getattr(sys.modules["torch"], value.kind)
            last = (None,) if legacy else ()
            return ("storage", kind, value.key, "cpu", value.values.size, *last)

    buffer = io.BytesIO()
    with _modules():
        Pickler(buffer, protocol=2).dump(content)
    return buffer.getvalue(), storages


@contextlib.contextmanager
def _modules():
    """Modules that give the pickle PyTorch's names."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for kind in STORAGES.values():
        setattr(torch, kind, type(kind, (), {"__module__": "torch"}))

    def rebuild(*_):
        raise AssertionError("written only")

    rebuild.__module__, rebuild.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2, torch._utils = rebuild, utils
    before = {name: sys.modules.get(name) for name in ("torch", "torch._utils")}
    sys.modules.update({"torch": torch, "torch._utils": utils})
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
