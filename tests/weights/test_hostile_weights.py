"""Weight files that lie, that are damaged or of another part end in one line, before a network is built or run."""

import json
import os
import shutil
import struct

import numpy as np
import pytest
from hostile import join_safetensors, refused, split_safetensors, without_tensor
from tiny_model import save_tiny_model

from vasa_jax.files import fingerprint
from vasa_jax.models.backbones import VGGFACE
from vasa_jax.weights import networks
from vasa_jax.weights.loss_networks import load_judges
from vasa_jax.weights.parts import SHIPPED, load_model, load_part
from vasa_jax.weights.safetensors_io import load_params, save_params

PARTS = ("face", "audio", "motion", "instrument", "emotion")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def copied(model, tmp_path):
    return shutil.copytree(model, tmp_path / "model")


def change_fields(path, change):
    """Rewrites a file with what `change` makes of its fields."""
    header, body = split_safetensors(path.read_bytes())
    stored = header["__metadata__"]
    stored["fields"] = json.dumps(change(json.loads(stored["fields"])))
    path.write_bytes(join_safetensors(header, body))


def test_the_shipped_parts_are_those_of_their_networks(monkeypatch):
    """Their structures are known; this test traces them."""
    found = {}
    for path in SHIPPED.rglob("*.safetensors"):
        def keep(shapes, metadata, path=path):
            found[path] = networks.structure(path.stem, shapes, metadata)

        load_params(path, keep)
    assert set(found.values()) == networks.TRACED, found
    monkeypatch.setattr(networks, "TRACED", frozenset())
    for path in found:
        load_part(path.parent, path.stem)


def test_checks_change_no_bit(copied):
    for part in ("face", "audio", "motion"):
        plain, metadata = load_params(copied / f"{part}.safetensors")
        checked, same = load_part(copied, part)
        assert fingerprint(plain) == fingerprint(checked) and metadata == same


def test_parts_in_each_others_place(copied):
    for part, other in (("motion", "face"), ("audio", "motion"), ("face", "audio")):
        folder = copied.parent / part
        shutil.copytree(copied, folder)
        shutil.copyfile(copied / f"{other}.safetensors", folder / f"{part}.safetensors")
        refused(lambda folder=folder: load_model(folder), f"{part}.safetensors")
    refused(lambda: load_part(copied, "instrument"), "instrument.safetensors", "no such file")
    for part in ("instrument", "emotion"):
        shutil.copyfile(copied / "audio.safetensors", copied / f"{part}.safetensors")
        refused(lambda part=part: load_part(copied, part), f"{part}.safetensors")


def test_parts_of_two_models(copied):
    """The shipped audio gives 128 features, the tiny motion hears 32."""
    shutil.copyfile(SHIPPED / "audio.safetensors", copied / "audio.safetensors")
    refused(lambda: load_model(copied), "hears 32 features", "gives 128")


@pytest.mark.parametrize("part", ["audio", "motion", "face"])
def test_the_first_tensor_that_is_wrong_is_named(copied, part):
    path = copied / f"{part}.safetensors"
    good = path.read_bytes()
    header, body = split_safetensors(good)
    name = sorted(key for key in header if key.endswith("kernel"))[0]
    entry = header[name]
    start, stop = entry["data_offsets"]
    nan = body[:start] + b"\xff\x7f" * ((stop - start) // 2) + body[stop:]
    large = body[:start] + b"\x7f\x7f" * ((stop - start) // 2) + body[stop:]
    more = {"dtype": "F32", "shape": [1], "data_offsets": [len(body), len(body) + 4]}
    cases = [
        ({**header, name: {**entry, "shape": [1, *entry["shape"]]}}, body, "has shape"),
        ({**header, name: {**entry, "dtype": "I16"}}, body, "is I16"),
        ({**header, name: {**entry, "dtype": "F8_E4M3", "shape": [stop - start]}}, body, "is F8_E4M3"),
        (header, nan, "is not finite"),
        (header, large, "beyond 1e+06"),
        ({**header, f"{name}2": more}, body + bytes(4), "unknown tensor"),
        ({**header, f"{name}.deeper": more}, body + bytes(4), "are both tensors"),
        ({**header, "a..b": more}, body + bytes(4), "no name of a tensor"),
    ]
    for changed, data, word in cases:
        path.write_bytes(join_safetensors(changed, data))
        refused(lambda: load_part(copied, part), path.name, word, "a..b" if "a..b" in changed else name)
    path.write_bytes(without_tensor(header, body, name))
    refused(lambda: load_part(copied, part), path.name, f"no tensor '{name}'")


BAD_VALUES = (None, -1, 2**31, 10**400, "x", [], {}, True, float("nan"), [[]], [10**9] * 8)


@pytest.mark.parametrize("part", ["audio", "motion", "face"])
def test_fields_out_of_range_are_named_and_build_nothing(copied, part):
    path = copied / f"{part}.safetensors"
    good = path.read_bytes()
    stored = json.loads(split_safetensors(good)[0]["__metadata__"]["fields"])
    inner = stored["encoder"] if part == "face" else stored
    for name, value in inner.items():
        for bad in BAD_VALUES:
            if isinstance(bad, bool) and isinstance(value, bool):
                continue

            def with_bad(fields, name=name, bad=bad):
                (fields["encoder"] if part == "face" else fields)[name] = bad
                return fields

            path.write_bytes(good)
            change_fields(path, with_bad)
            refused(lambda: load_part(copied, part), path.name)
    for fields in (None, [], 5, "x", {"unknown": 1}, {"encoder": {}}):
        path.write_bytes(good)
        change_fields(path, lambda old, fields=fields: fields)
        refused(lambda: load_part(copied, part), path.name, "fields")


def test_headers_that_ask_for_memory_or_recursion(tmp_path):
    path = tmp_path / "x.safetensors"
    save_params(path, {"a": np.ones(3, np.float32)}, {"step": 1})
    header, body = split_safetensors(path.read_bytes())

    def with_metadata(**stored):
        return join_safetensors({**header, "__metadata__": stored}, body)

    for data in (
        b"", b"1234567", struct.pack("<Q", 2**63) + b"{}", struct.pack("<Q", 99_000_000) + b"{" + b" " * 30_000_000,
        join_safetensors(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", body),
        join_safetensors(b"hello", body), join_safetensors(b"[]", body),
        with_metadata(fields="[" * 200_000 + "]" * 200_000), with_metadata(fields="[" * 500 + "]" * 500),
        with_metadata(step="1" * 10_000), with_metadata(step="{"),
        join_safetensors({f"a{n}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for n in range(60_000)}, b""),
    ):  # fmt: skip
        path.write_bytes(data)
        refused(lambda: load_params(path), "x.safetensors")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_what_is_no_file_never_waits(copied):
    for part in ("face", "audio", "motion"):
        path = copied / f"{part}.safetensors"
        good = path.read_bytes()
        for make, word in (
            (lambda path=path: os.mkfifo(path), "a FIFO"),
            (lambda path=path: path.mkdir(), "a folder"),
            (lambda path=path: path.symlink_to("/dev/zero"), "a device"),
            (lambda path=path: path.symlink_to(path), ""),
        ):
            path.unlink()
            make()
            refused(lambda part=part: load_part(copied, part), path.name, word)
            path.rmdir() if path.is_dir() else path.unlink()
            path.write_bytes(good)
    for name in ("a" * 300, "x\0y", str(copied / "face.safetensors")):
        refused(lambda name=name: load_model(name), "no such directory")


def test_loss_networks_of_other_shapes_or_numbers(tmp_path):
    """Tensors of the right names: with other widths, other axes, and a variance that has no root."""
    names = [f"conv{stage}_{i}" for stage, depth in enumerate(VGGFACE.depths, start=1) for i in range(1, depth + 1)]
    path = tmp_path / "vggface.safetensors"
    for shape, word in (((4, 3, 3, 3), "has shape"), ((4, 3), "another shape")):
        layers = {name: {"weight": np.ones(shape, np.float32), "bias": np.ones(4, np.float32)} for name in names}
        save_params(path, layers, {}, np.float32)
        refused(lambda: load_judges(tmp_path), "vggface.safetensors", word)


def test_judges_of_other_fields(tmp_path):
    path = tmp_path / "judge.safetensors"
    params = {"perceptual": {"a": np.ones(2, np.float32)}, "identity": {"b": np.ones(2, np.float32)}}
    for fields in ({"segments": 10**9, "points": 3}, {"segments": "x"}, {"other": 1}, 5, {"segments": 3, "points": 2}):
        save_params(path, params, {"fields": fields})
        refused(lambda: load_judges(tmp_path), "judge.safetensors")
