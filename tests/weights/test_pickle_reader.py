"""Pickled files: both formats of PyTorch and NumPy's arrays are read; anything that asks for more is refused."""

import argparse
import builtins
import os
import pathlib
import pickle
import struct
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
from torch_files import MAGIC, PROTOCOL, Storage, Tensor, tensors, write_legacy, write_zip

from vasa_jax.errors import InputError
from vasa_jax.weights.pickle_reader import PickledObject, read_pickle

WRITERS = {"zip": write_zip, "legacy": write_legacy}


def arrays():
    rng = np.random.default_rng(0)
    return {
        "a.weight": rng.standard_normal((3, 4, 2)).astype(np.float32),
        "a.bias": rng.standard_normal(3),
        "half": rng.standard_normal(5).astype(np.float16),
        "count": np.array(7, np.int64),
        "mask": np.array([[True, False], [False, True]]),
        "none": np.zeros((0, 3), np.float32),
    }


def same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        np.testing.assert_array_equal(found[name], value)


@pytest.mark.parametrize("kind", WRITERS)
def test_state_dicts(tmp_path, kind):
    WRITERS[kind](tmp_path / "model.pth", tensors(arrays()))
    same(read_pickle(tmp_path / "model.pth"), arrays())


def test_the_folder_in_a_zip_has_any_name(tmp_path):
    write_zip(tmp_path / "model.pth", tensors(arrays()), prefix="motion_generator_v3")
    same(read_pickle(tmp_path / "model.pth"), arrays())


@pytest.mark.parametrize("kind", WRITERS)
def test_views_share_a_storage(tmp_path, kind):
    numbers = np.arange(12, dtype=np.float32)
    storage = Storage(numbers, "0")
    content = {
        "rows": Tensor(storage, 0, (3, 4), (4, 1)),
        "columns": Tensor(storage, 0, (4, 3), (1, 4)),
        "part": Tensor(storage, 5, (2, 2), (4, 1)),
        "one": Tensor(storage, 11, (), ()),
    }
    WRITERS[kind](tmp_path / "model.pth", content)
    found = read_pickle(tmp_path / "model.pth")
    np.testing.assert_array_equal(found["rows"], numbers.reshape(3, 4))
    np.testing.assert_array_equal(found["columns"], numbers.reshape(3, 4).T)
    np.testing.assert_array_equal(found["part"], numbers.reshape(3, 4)[1:, 1:3])
    assert found["one"] == 11.0 and found["one"].shape == ()


def test_bfloat16_is_widened(tmp_path):
    values = np.float32([1.0, -2.5, 3.140625, 0.0])
    write_zip(tmp_path / "model.pth", tensors({"w": (values.view(np.uint32) >> 16).astype(np.uint16)}))
    found = read_pickle(tmp_path / "model.pth")["w"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, values)


def test_settings_beside_tensors(tmp_path):
    """As JoyVASA's file has them: a namespace with paths."""
    settings = argparse.Namespace(n_motions=100, root=pathlib.PurePosixPath("/data/set"), rates=[1e-4, None], on=True)
    content = {"args": settings, "model": tensors(arrays()), "iter": 50_000}
    write_zip(tmp_path / "model.pt", content)
    found = read_pickle(tmp_path / "model.pt")
    assert isinstance(found["args"], PickledObject) and found["iter"] == 50_000
    assert found["args"].fields == {"n_motions": 100, "root": "/data/set", "rates": [1e-4, None], "on": True}
    same(found["model"], arrays())


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_numpy_arrays(tmp_path, protocol):
    content = {
        "floats": np.float32([[1, 2], [3, 4]]),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "big": np.arange(3, dtype=">i4"),
        "scalar": np.float64(2.5),
        "nested": [{"mask": np.array([True, False])}, (1, "two", None)],
    }
    (tmp_path / "template.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
    found = read_pickle(tmp_path / "template.pkl")
    for name in ("floats", "fortran", "big"):
        np.testing.assert_array_equal(found[name], content[name])
    assert found["scalar"] == 2.5 and found["nested"][1] == (1, "two", None)
    np.testing.assert_array_equal(found["nested"][0]["mask"], [True, False])


def test_both_spellings_of_numpys_modules(tmp_path):
    data = pickle.dumps({"x": np.float32([1, 2])}, protocol=4)
    old, new = b"numpy.core.multiarray", b"numpy._core.multiarray"
    for spelling in (old, new):
        text = data
        for other in (old, new):
            # A short string is preceded by its length.
            text = text.replace(bytes([len(other)]) + other, bytes([len(spelling)]) + spelling)
        # Frames tell lengths too; without them the stream is the same.
        text = text[:2] + text[11:]
        (tmp_path / "x.pkl").write_bytes(text)
        np.testing.assert_array_equal(read_pickle(tmp_path / "x.pkl")["x"], [1.0, 2.0])


class Calls:
    """Pickles as a call of any function."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


HOSTILE = {
    "os.system": lambda mark: Calls(os.system, f"touch {mark}"),
    "eval": lambda mark: Calls(eval, f"open({str(mark)!r}, 'w')"),
    "exec": lambda mark: Calls(exec, f"open({str(mark)!r}, 'w')"),
    "getattr": lambda mark: Calls(getattr, OrderedDict, "fromkeys"),
    "open": lambda mark: Calls(builtins.open, str(mark), "w"),
    "import": lambda mark: Calls(__import__, "antigravity"),
    "a path that is made": lambda mark: Calls(pathlib.Path.touch, mark),
    "an array of objects": lambda mark: np.array([{"a": 1}, None], object),
    "a record": lambda mark: np.zeros(2, [("a", "f4")]),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("wrap", ["bare", "zip", "legacy"])
def test_nothing_in_a_file_is_run(tmp_path, name, wrap):
    mark, path = tmp_path / "mark", tmp_path / "model.pth"
    content = {"weight": HOSTILE[name](mark)}
    if wrap == "bare":
        path.write_bytes(pickle.dumps(content))
    else:
        WRITERS[wrap](path, content)
    with pytest.raises(InputError) as error:
        read_pickle(path)
    text = str(error.value)
    assert text.startswith(str(path)) and "\n" not in text and not mark.exists()


def test_what_is_refused_is_named(tmp_path):
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(Calls(os.system, "true")))
    with pytest.raises(InputError, match=r"asks for '(posix|nt)\.system'"):
        read_pickle(tmp_path / "x.pkl")


def tampered(change):
    storage = Storage(np.arange(6, dtype=np.float32), "0")
    return {"w": Tensor(storage, *change)}


BAD_TENSORS = {
    "past the end": (0, (7,), (1,)),
    "offset past the end": (6, (1,), (1,)),
    "before the start": (-1, (2,), (1,)),
    "backwards": (5, (3,), (-1,)),
    "huge by repetition": (0, (10**6, 10**6), (0, 0)),
    "more than there is": (0, (6, 2), (1, 0)),
    "negative size": (0, (-1,), (1,)),
    "axes without strides": (0, (2, 3), (1,)),
}


@pytest.mark.parametrize("name", BAD_TENSORS)
@pytest.mark.parametrize("kind", WRITERS)
def test_tensors_stay_inside_their_storage(tmp_path, name, kind):
    WRITERS[kind](tmp_path / "model.pth", tampered(BAD_TENSORS[name]))
    with pytest.raises(InputError, match="a tensor of size"):
        read_pickle(tmp_path / "model.pth")


def test_damaged_zips(tmp_path):
    path = tmp_path / "model.pth"
    write_zip(path, tensors(arrays()))
    whole = path.read_bytes()
    for length in (len(whole) // 2, 40, 0):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match="damaged or no such format"):
            read_pickle(path)
    write_zip(path, tensors(arrays()), compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(InputError, match="a compressed zip"):
        read_pickle(path)
    write_zip(path, tensors(arrays()), members=[("code/__torch__.py", "pass")])
    with pytest.raises(InputError, match="TorchScript"):
        read_pickle(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "no tensors")
    with pytest.raises(InputError, match="0 members"):
        read_pickle(path)
    short = tensors({"w": np.zeros(4, np.float32)})
    write_zip(path, short)
    with zipfile.ZipFile(path) as archive:
        pickled = archive.read("archive/data.pkl")
    for data, fault in ((b"\0" * 12, "another size"), (None, "is missing")):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", pickled)
            if data is not None:
                archive.writestr("archive/data/0", data)
        with pytest.raises(InputError, match=fault):
            read_pickle(path)


def test_damaged_legacy_files(tmp_path):
    path = tmp_path / "model.pth"
    write_legacy(path, tensors({"w": np.zeros(1000, np.float32)}))
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(InputError, match="cut short"):
        read_pickle(path)
    # A count of numbers that would take more memory than there is.
    path.write_bytes(whole.replace(struct.pack("<q", 1000), struct.pack("<q", 2**60)))
    with pytest.raises(InputError, match="cut short"):
        read_pickle(path)
    path.write_bytes(pickle.dumps(MAGIC, 2) + pickle.dumps(PROTOCOL + 1, 2) + pickle.dumps({}, 2))
    with pytest.raises(InputError, match="protocol"):
        read_pickle(path)


def test_a_circle_ends(tmp_path):
    content = {}
    content["self"] = content
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(InputError, match="RecursionError"):
        read_pickle(tmp_path / "x.pkl")


def test_no_file(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_pickle(tmp_path / "x.pth")
