"""Manifests: what they say, who signs them, what breaks them."""

import datetime
import json
import stat

import av
import c2pa
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from vasa_jax.data.audio_files import Audio
from vasa_jax.errors import InputError
from vasa_jax.generation.provenance import (
    UNMARKED_COMMENT,
    Signer,
    manifest,
    model_name,
    point_to_responsible_use,
    read_manifest,
    settings_folder,
    write_generated,
)
from vasa_jax.generation.watermark import Payload

PAYLOAD = Payload(0x0C0FFEE)
IPTC = "http://cv.iptc.org/newscodes/digitalsourcetype"


@pytest.fixture(autouse=True)
def settings(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))


def written(path, payload=PAYLOAD, signer=None):
    frames = np.random.default_rng(0).integers(0, 255, (5, 64, 64, 3), np.uint8)
    sound = Audio.from_samples(np.zeros(3200, np.float32))
    return write_generated(path, frames, sound, payload, "0123456789ab", signer)


def own_certificate(folder, key, *, purpose=ExtendedKeyUsageOID.EMAIL_PROTECTION):
    """A user's certificate, signed by itself, and its key, as PEM files."""
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "A Studio"), x509.NameAttribute(NameOID.COMMON_NAME, "Studio key")])  # fmt: skip  # noqa: E501
    now, ca_key = datetime.datetime.now(datetime.UTC), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "A Studio CA")])
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign", "crl_sign",
         "encipher_only", "decipher_only"), False,
    )  # fmt: skip
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(ca_name).public_key(key.public_key())
        .serial_number(5).not_valid_before(now - datetime.timedelta(1)).not_valid_after(now + datetime.timedelta(9))
        .add_extension(x509.BasicConstraints(False, None), True)
        .add_extension(x509.KeyUsage(digital_signature=True, **usage), True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), False)
        .sign(ca_key, hashes.SHA256())
    )  # fmt: skip
    chain, secret = folder / "chain.pem", folder / "key.pem"
    chain.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ))  # fmt: skip
    return chain, secret


def test_file_says_how_it_was_made(tmp_path):
    path = written(tmp_path / "a.mp4")
    state = read_manifest(path)
    assert state.state == "valid" and state.generated and not state.trusted
    assert state.program == "vasa_jax 0.1.0" and state.model == "0123456789ab" and state.mark == str(PAYLOAD)
    assert state.signer == "vasa_jax local key"
    with av.open(str(path)) as file:
        assert sum(1 for _ in file.decode(video=0)) == 5
        assert "AI-generated" in file.metadata["comment"]
    assert sorted(item.name for item in tmp_path.iterdir()) == ["a.mp4", "settings"]  # no parts are left


def test_manifest_names_nobody():
    for edited in ("", "photograph", "video"):
        told = str(manifest(PAYLOAD, "model", edited)).lower()
        for word in ("home", "user", "host", "/work", "portrait"):
            assert word not in told
    action = manifest(PAYLOAD, "model")["assertions"][0]["data"]["actions"][0]
    assert action["action"] == "c2pa.created" and action["digitalSourceType"] == f"{IPTC}/trainedAlgorithmicMedia"


@pytest.mark.parametrize("edited", ["photograph", "video"])
def test_a_file_that_shows_what_the_user_gave_says_that_it_was_edited(tmp_path, edited):
    """As C2PA's guidance on edits asks: the original is opened first, then edited with a generative model."""
    frames = np.zeros((5, 64, 64, 3), np.uint8)
    path = write_generated(tmp_path / "a.mp4", frames, None, PAYLOAD, "0123456789ab", edited=edited)
    state = read_manifest(path)
    assert state.state == "valid" and state.generated and state.edited and state.mark == str(PAYLOAD)
    assert "edited by a trained algorithm" in str(state)
    with open(path, "rb") as file, c2pa.Reader("video/mp4", file) as reader:
        store = json.loads(reader.json())
    told = store["manifests"][store["active_manifest"]]
    actions, *others = (each["data"]["actions"] for each in told["assertions"] if "actions" in each["data"])
    assert not others and [action["action"] for action in actions] == ["c2pa.opened", "c2pa.edited"]
    assert actions[1]["digitalSourceType"] == f"{IPTC}/compositeWithTrainedAlgorithmicMedia"
    (original,) = told["ingredients"]
    assert original.pop("label") in actions[0]["parameters"]["ingredients"][0]["url"]
    # Nothing but its kind: neither its name nor a hash that would tell the very file.
    assert original == {"title": edited, "relationship": "parentOf"}


def test_a_generated_file_has_no_original(tmp_path):
    state = read_manifest(written(tmp_path / "a.mp4"))
    assert state.generated and not state.edited and "made by a trained algorithm" in str(state)
    assert not manifest(PAYLOAD, "model")["ingredients"]


def test_any_change_of_the_content_is_seen(tmp_path):
    path = written(tmp_path / "a.mp4")
    whole = path.read_bytes()
    place = whole.index(b"mdat") + 20
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    state = read_manifest(path)
    assert state.state == "invalid" and "mismatch" in state.fault and "invalid" in str(state)


def test_files_without_a_manifest(tmp_path):
    path = written(tmp_path / "a.mp4", payload=None)
    assert read_manifest(path).state == "none" == str(read_manifest(path))
    with av.open(str(path)) as file:
        assert file.metadata["comment"] == UNMARKED_COMMENT
    assert not settings_folder().exists()  # nothing was signed
    (tmp_path / "a.txt").write_text("text")
    assert read_manifest(tmp_path / "a.txt").state == "none"


def test_machine_has_one_key_that_others_cannot_read():
    first = Signer.of_machine()
    assert first == Signer.of_machine()
    path = settings_folder() / "provenance.pem"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [item.name for item in settings_folder().iterdir()] == ["provenance.pem"]
    path.write_bytes(path.read_bytes()[:200])  # damaged: made anew
    path.chmod(0o644)
    assert Signer.of_machine()._is_pair()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.unlink()
    path.mkdir()  # a folder has its name: nothing is kept, and nothing is left
    assert Signer.of_machine()._is_pair()
    assert [item.name for item in settings_folder().iterdir()] == ["provenance.pem"]


def test_a_folder_that_cannot_be_written_is_no_obstacle(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
    assert read_manifest(written(tmp_path / "a.mp4")).state == "valid"
    point_to_responsible_use()


@pytest.mark.parametrize("key", [ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)])
def test_users_certificate_signs(tmp_path, key):
    signer = Signer.from_files(*own_certificate(tmp_path, key))
    state = read_manifest(written(tmp_path / "a.mp4", signer=signer))
    assert state.state == "valid" and state.signer == "Studio key"


def test_certificates_that_do_not_serve(tmp_path):
    chain, key = own_certificate(tmp_path, ec.generate_private_key(ec.SECP256R1()))
    other = tmp_path / "other"
    other.mkdir()
    _, wrong = own_certificate(other, ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(InputError, match=r"is not the key of"):
        Signer.from_files(chain, wrong)
    with pytest.raises(InputError, match="no PEM certificate"):
        Signer.from_files(key, chain)
    with pytest.raises(InputError, match="does not exist"):
        Signer.from_files(tmp_path / "none.pem", key)
    wrong.write_text("no key")
    with pytest.raises(InputError, match="no PEM certificate"):
        Signer.from_files(chain, wrong)


def test_nothing_is_left_where_signing_fails(tmp_path):
    chain, key = own_certificate(tmp_path, ec.generate_private_key(ec.SECP256R1()), purpose=ExtendedKeyUsageOID.SERVER_AUTH)  # noqa: E501
    signer = Signer.from_files(chain, key)
    before = {item.name for item in tmp_path.iterdir()}
    with pytest.raises(InputError, match="cannot be signed"):
        written(tmp_path / "a.mp4", signer=signer)
    assert {item.name for item in tmp_path.iterdir()} == before


def test_model_name_follows_the_parameters():
    params = {"decoder": {"kernel": np.ones((2, 3), np.float32)}, "encoder": {"bias": np.zeros(2, np.float32)}}
    again = {"encoder": {"bias": np.zeros(2, np.float32)}, "decoder": {"kernel": np.ones((2, 3), np.float32)}}
    assert model_name(params) == model_name(again) and len(model_name(params)) == 12
    again["encoder"]["bias"][0] = 1
    assert model_name(params) != model_name(again)


def test_duties_are_pointed_to_once(capsys):
    point_to_responsible_use()
    assert capsys.readouterr().err.count("docs/responsible-use.md") == 1
    point_to_responsible_use()
    assert not capsys.readouterr().err
