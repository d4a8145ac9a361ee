"""What strangers put into manifests, certificates and job lists: shown in short lines, or refused in one."""

import datetime
import os

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.x509.oid import NameOID
from hostile import refused
from PIL import Image

from vasa_jax.config import VASAConfig
from vasa_jax.generation import provenance
from vasa_jax.generation.control_track import read_control_track
from vasa_jax.generation.detect import Detection, describe
from vasa_jax.generation.job_list import generate_listed
from vasa_jax.generation.mark_search import search
from vasa_jax.generation.provenance import (
    DETAILS,
    ManifestState,
    Signer,
    manifest,
    read_manifest,
    settings_folder,
    sign_file,
)
from vasa_jax.generation.watermark import Payload

PEM, PKCS8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8


@pytest.fixture(autouse=True)
def settings(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))


def pem_of(key, encryption=None):
    return key.private_bytes(PEM, PKCS8, encryption or serialization.NoEncryption())


def certificate_of(key):
    name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")]), datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(5).not_valid_before(now).not_valid_after(now + datetime.timedelta(1))
    return builder.sign(key, hashes.SHA256()).public_bytes(PEM)


def signed(folder, change):
    """A small picture with a manifest that a stranger has changed and signed."""
    path = folder / "a.png"
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(path)
    content = manifest(Payload(1), "model")
    change(content)
    sign_file(path, "image/png", content, Signer.of_machine())
    return path


@pytest.mark.parametrize("details", [[1, 2], "text", {"model": {"a": [1]}, "mark": None}, {"model": 5}, None, True])
def test_a_manifest_may_say_anything_in_the_place_of_anything(tmp_path, details):
    def change(content):
        assert content["assertions"][2]["label"] == DETAILS
        content["assertions"][2]["data"] = details

    state = read_manifest(signed(tmp_path, change))
    assert state.state == "valid" and state.generated and state.program.startswith("vasa_jax ")


def test_words_of_a_manifest_and_names_are_shown_on_lines_of_their_own(tmp_path):
    hostile = "\x1b[31mred\nmarked\u202e" + "x" * 5000

    def change(content):
        content["assertions"][2]["data"].update(model=hostile, mark=hostile)
        content["claim_generator_info"][0]["name"] = hostile

    state = read_manifest(signed(tmp_path, change))
    evidence = search(np.zeros((256, 256), np.float32))
    text = describe("two\nlines\x1b.mp4", Detection(evidence, 0.0, 1, state))
    lines = text.splitlines()
    assert lines[0].startswith(r"two\nlines\x1b.mp4: no mark found")
    assert len(lines) == 2 and all(line.isprintable() and len(line) < 1000 for line in lines)
    assert r"\x1b[31mred\nmarked\u202exxx" in lines[1]


@pytest.mark.parametrize("store", [None, [], "x", {"manifests": []}, {"manifests": {"a": 5}, "active_manifest": "a"}])
def test_any_store_gives_a_state(store):
    assert provenance._state(store) == ManifestState("valid")


def test_certificates_and_keys_that_are_none_are_refused_in_one_line(tmp_path):
    good = ec.generate_private_key(ec.SECP256R1())
    odd = dsa.generate_private_key(1024)
    small = rsa.generate_private_key(65537, 1024)
    curve = ec.generate_private_key(ec.SECP256K1())
    locked = serialization.BestAvailableEncryption(b"word")
    pairs = [
        (certificate_of(good), pem_of(good, locked)), (certificate_of(good), b" "), (b" ", pem_of(good)),
        (certificate_of(good), b"-----BEGIN PRIVATE KEY-----"), (bytes(range(256)), bytes(range(256))),
        (certificate_of(odd), pem_of(odd)), (certificate_of(small), pem_of(small)),
        (certificate_of(curve), pem_of(curve)), (certificate_of(good), pem_of(ed25519.Ed25519PrivateKey.generate())),
        (certificate_of(good)[:300] + b"\n-----END CERTIFICATE-----\n", pem_of(good)),
    ]  # fmt: skip
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    for first, second in pairs:
        chain.write_bytes(first)
        key.write_bytes(second)
        refused(lambda: Signer.from_files(chain, key), "give")
    with open(chain, "wb") as file:
        file.truncate(2**36)
    refused(lambda: Signer.from_files(chain, key), "is larger than")


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "large", "odd key"])
def test_a_machines_key_that_cannot_be_read_is_made_anew(kind):
    path = settings_folder() / "provenance.pem"
    path.parent.mkdir(parents=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "large":
        with open(path, "wb") as file:
            file.truncate(2**36)
    else:
        odd = dsa.generate_private_key(1024)
        path.write_bytes(certificate_of(odd) + pem_of(odd))
    assert Signer.of_machine().algorithm == "es256"
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]  # nothing hidden is left beside it


def test_job_lists_of_any_size_and_their_notes_are_one_line(tmp_path):
    jobs, done = tmp_path / "jobs.jsonl", tmp_path / "jobs.jsonl.done"
    with open(jobs, "wb") as file:
        file.truncate(2**36)
    refused(lambda: generate_listed(VASAConfig(jobs=str(jobs)), None), "jobs.jsonl", "is larger than")
    jobs.write_bytes(b"{}\n")
    for make in (os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)):
        make(done)
        refused(lambda: generate_listed(VASAConfig(jobs=str(jobs)), None), "jobs.jsonl.done", "remove it")
        done.rmdir() if done.is_dir() else done.unlink()


def test_the_home_of_nobody_is_no_traceback():
    refused(lambda: read_control_track("~nobody-of-this-name/track.json"), "cannot be read")
