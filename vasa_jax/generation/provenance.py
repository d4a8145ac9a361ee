"""Content Credentials: a C2PA manifest in every generated file, and what the manifest of a file says.

The manifest states that a trained algorithm made the video, or edited a photograph or a video for it. It names program,
model, mark and time, and nothing about the user. It is signed with a key of this machine that is made at the first use,
or with the user's own certificate. It is a label, not a lock: whoever copies the streams alone removes it. The mark in
the frames stays (`watermark.py`).

C2PA specification 2.2: actions, digital source types, soft bindings, certificate profile; its implementation guidance
2.4 on edits by AI: the original is opened, as an ingredient, then edited. IPTC: Digital Source Type NewsCodes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import functools
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import jax
import numpy as np
from cryptography.exceptions import UnsupportedAlgorithm

from vasa_jax.conventions import FPS
from vasa_jax.data.audio_files import Audio
from vasa_jax.data.encodings import SEQUENCE, mime_of
from vasa_jax.data.image_files import existing_file
from vasa_jax.data.output_files import AI_COMMENT, video_output
from vasa_jax.data.subtitles import Cue
from vasa_jax.data.video_files import write_video
from vasa_jax.errors import InputError, one_line
from vasa_jax.files import read_bytes, replacing
from vasa_jax.generation.watermark import Payload

_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype"
MADE_BY = f"{_SOURCE_TYPE}/trainedAlgorithmicMedia"
EDITED_BY = f"{_SOURCE_TYPE}/compositeWithTrainedAlgorithmicMedia"  # IPTC: edited with a generative model
MARK_NAME = "vasa_jax.mark"  # algorithm of the soft binding
DETAILS = "org.vasa_jax.generation"
TYPES = {
    ".mp4": "video/mp4", ".m4v": "video/mp4", ".mov": "video/quicktime", ".png": "image/png", ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg", ".webp": "image/webp", ".tif": "image/tiff", ".tiff": "image/tiff", ".avi": "video/avi",
}  # fmt: skip
WITHOUT_MANIFEST_COMMENT = f"{AI_COMMENT} Its frames carry an invisible mark; WebM holds no C2PA manifest."
UNMARKED_COMMENT = f"{AI_COMMENT} Marks were switched off: it has no manifest and no invisible mark."
LARGEST_PEM = 2**20  # bytes of a file with certificates or a key
LONGEST_CLAIM = 100  # characters of a manifest's word that are shown
YEARS = 10  # that a machine's own certificate is valid


@dataclasses.dataclass(frozen=True)
class Signer:
    """PEM texts that sign: a certificate chain, the leaf first, and the leaf's private key (PKCS 8)."""

    chain: bytes
    key: bytes

    @classmethod
    def from_files(cls, certificate: str | Path, key: str | Path) -> Signer:
        """Returns the user's own signer; InputError where a file is missing or the two do not belong together."""
        files = ((certificate, "certificate"), (key, "key"))
        signer = cls(
            *(read_bytes(existing_file(path, what), f"give a PEM {what}", LARGEST_PEM) for path, what in files)
        )
        try:
            is_pair = signer._is_pair()
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            fault = " ".join(str(error).split())
            raise InputError(
                f"{certificate}, {key}: no PEM certificate and unencrypted key ({fault}); give both as PEM files"
            ) from None
        if not is_pair:
            raise InputError(f"{key}: is not the key of {certificate}; give the key of its first certificate")
        signer.algorithm  # noqa: B018  raises for a key that C2PA does not sign with
        return signer

    @classmethod
    def of_machine(cls) -> Signer:
        """Returns this machine's signer, made and kept (mode 600) at the first use; not kept where it cannot be."""
        # One file, so that processes that start at once never mix two chains and keys.
        path = settings_folder() / "provenance.pem"
        with contextlib.suppress(ValueError, TypeError, UnsupportedAlgorithm):  # InputError is a ValueError
            chain, begin, key = read_bytes(path, "remove it", LARGEST_PEM).partition(b"-----BEGIN PRIVATE KEY")
            signer = cls(chain, begin + key)
            if signer._is_pair() and signer.algorithm:
                return signer
        signer = _own_signer()
        with contextlib.suppress(InputError, OSError), replacing(path, mode=0o600) as part:
            part.write_bytes(signer.chain + signer.key)
        return signer

    @property
    def algorithm(self) -> str:
        """C2PA's name of the signature algorithm; InputError for a key that C2PA does not know."""
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        key = load_pem_private_key(self.key, None)
        curves = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}
        if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in curves:
            return curves[key.curve.name]
        if isinstance(key, ed25519.Ed25519PrivateKey):
            return "ed25519"
        if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= 2048:
            return "ps256"
        raise InputError(
            "config.sign_key: C2PA signs with ECDSA on the NIST curves, Ed25519 or RSA from 2048 bits; give such a key"
        )

    def _is_pair(self) -> bool:
        """Whether the key is that of the chain's first certificate; ValueError or TypeError for what is no PEM."""
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
        from cryptography.x509 import load_pem_x509_certificate

        certificate = load_pem_x509_certificate(self.chain)
        return load_pem_private_key(self.key, None).public_key() == certificate.public_key()


def settings_folder() -> Path:
    """Returns the folder of what this machine keeps: $XDG_CONFIG_HOME/vasa_jax, by default ~/.config/vasa_jax.

    Where no home folder is known it is one that cannot be made: nothing is kept.
    """
    try:
        return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "vasa_jax"
    except RuntimeError:
        return Path(os.devnull) / "vasa_jax"


@functools.cache
def _own_signer() -> Signer:
    """A new authority and a certificate of it, as C2PA's certificate profile asks; they name no person or machine."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    end = start + datetime.timedelta(days=365 * YEARS)
    root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))

    def name(common):
        return x509.Name([
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "vasa_jax user"),
            x509.NameAttribute(NameOID.COMMON_NAME, common),
        ])  # fmt: skip

    def certificate(subject, public, *, authority):
        usage = dict.fromkeys(
            ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
             "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"), False,
        )  # fmt: skip
        usage.update({"key_cert_sign": True, "crl_sign": True} if authority else {"digital_signature": True})
        builder = (
            x509.CertificateBuilder()
            .subject_name(name(subject)).issuer_name(name("vasa_jax local authority"))
            .public_key(public).serial_number(x509.random_serial_number())
            .not_valid_before(start).not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.KeyUsage(**usage), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), critical=False)
        )  # fmt: skip
        if not authority:
            purpose = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
            builder = builder.add_extension(purpose, critical=False)
        return builder.sign(root_key, hashes.SHA256()).public_bytes(Encoding.PEM)

    leaf = certificate("vasa_jax local key", key.public_key(), authority=False)
    root = certificate("vasa_jax local authority", root_key.public_key(), authority=True)
    return Signer(leaf + root, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def manifest(payload: Payload, model: str, edited: str = "") -> dict:
    """Returns the manifest of a generated video: what made it, by which model, with which mark, and when.

    edited: what the user gave and the video shows beside what is generated, "photograph" or "video"; empty = nothing.
    It is an ingredient without name, hash or thumbnail.
    """
    import vasa_jax

    program = {"name": "vasa_jax", "version": vasa_jax.__version__}
    when = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    done = {"softwareAgent": program, "when": when}
    if edited:
        opened = {"action": "c2pa.opened", **done, "parameters": {"ingredientIds": ["original"]}}
        actions = [opened, {"action": "c2pa.edited", "digitalSourceType": EDITED_BY, **done}]
        ingredients = [{"title": edited, "relationship": "parentOf", "label": "original"}]
    else:
        actions, ingredients = [{"action": "c2pa.created", "digitalSourceType": MADE_BY, **done}], []
    binding = {"alg": f"{MARK_NAME}.{payload.version}", "blocks": [{"scope": {}, "value": str(payload)}]}
    return {
        "claim_generator_info": [program],
        "title": f"{edited}, edited by AI: a talking head" if edited else "AI-generated talking head",
        "ingredients": ingredients,
        "assertions": [
            {"label": "c2pa.actions.v2", "data": {"actions": actions}},
            {"label": "c2pa.soft-binding", "data": binding},
            {"label": DETAILS, "data": {"model": model, "mark": str(payload), "mark_version": payload.version}},
        ],
    }


def model_name(params: dict[str, Any]) -> str:
    """Returns a name of a codec's parameters for the manifest, 12 hexadecimal digits; a path could name a person."""
    digest = hashlib.sha256()
    for path, leaf in sorted((jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree.leaves_with_path(params)):
        digest.update(path.encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()[:12]


def write_generated(
    path: str | Path,
    frames: Iterable[np.ndarray],
    audio: Audio | None,
    payload: Payload | None,
    model: str,
    signer: Signer | None = None,
    fps: int | Fraction = FPS,
    edited: str = "",
    transparent: bool = False,
    subtitles: tuple[Cue, ...] = (),
) -> Path:
    """Writes generated frames, uint8 (H, W, 3 or 4), and sound as a video with its manifest; returns the path.

    Of a sequence of pictures each has its manifest. WebM holds none (C2PA 2.2, appendix A): its comment says so.

    payload: of the mark in the frames; None: they have none, the file gets no manifest, and its comment says so.
    model: its name. signer: by default this machine's. edited: see `manifest`.
    InputError where the file cannot be written or signed; nothing is left behind then.
    """
    sequence = Path(path).suffix.lower() == SEQUENCE
    kind = "image/png" if sequence else mime_of(video_output(path))
    if payload is None:
        comment, seal = UNMARKED_COMMENT, None
    elif kind == "video/webm":
        comment, seal = WITHOUT_MANIFEST_COMMENT, None
    else:
        signer = signer or Signer.of_machine()
        content = manifest(payload, model, edited)
        comment, seal = AI_COMMENT, functools.partial(sign_file, kind=kind, content=content, signer=signer)
    return write_video(
        path, frames, audio, fps, comment=comment, seal=seal, transparent=transparent, subtitles=subtitles
    )


def point_to_responsible_use() -> None:
    """Prints, once per machine, where the duties of who animates people are written."""
    stamp = settings_folder() / "responsible_use_shown"
    if os.path.exists(stamp):
        return
    print(
        "note: before you animate a real person: have their consent; docs/responsible-use.md says what else is due",
        file=sys.stderr,
    )
    with contextlib.suppress(OSError):
        stamp.parent.mkdir(parents=True, exist_ok=True)
        stamp.touch()


def sign_file(path: Path, kind: str, content: dict, signer: Signer) -> None:
    """Adds a signed manifest, as `manifest` gives it, to a complete file of a MIME type; InputError where that fails.

    The file is rewritten in place: it is to be one that has not got its name yet.
    """
    import c2pa

    info = c2pa.C2paSignerInfo(signer.algorithm.encode(), signer.chain, signer.key, None)
    try:
        with (
            c2pa.Context(settings=c2pa.Settings.from_dict(SETTINGS)) as context,
            c2pa.Signer.from_info(info) as pen,
            c2pa.Builder(content, context=context) as builder,
            open(path, "r+b") as file,
            tempfile.TemporaryFile(dir=path.parent) as signed,
        ):
            builder.sign(pen, kind, file, signed)
            for each in (signed, file):
                each.seek(0)
            shutil.copyfileobj(signed, file)
            file.truncate()
    except c2pa.C2paError as error:
        raise InputError(f"{path}: cannot be signed ({error}); give another config.sign_certificate") from None


# Nothing is fetched: neither manifests kept elsewhere nor the state of certificates. No thumbnail doubles the file.
SETTINGS = {
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
    "builder": {"thumbnail": {"enabled": False}},
}


@dataclasses.dataclass(frozen=True)
class ManifestState:
    """What the manifest of a file says. state: none, valid (signature and content agree) or invalid.

    generated: it says that a trained algorithm made the file or edited what it shows; edited: the latter; program,
    model, mark (empty where it does not say); signer: who signed; trusted: by a certificate on a trust list; fault:
    what is wrong with an invalid one.
    """

    state: str
    generated: bool = False
    edited: bool = False
    program: str = ""
    model: str = ""
    mark: str = ""
    signer: str = ""
    trusted: bool = False
    fault: str = ""

    def __str__(self) -> str:
        if not self.program:
            return f"{self.state} ({self.fault})" if self.fault else self.state
        made = "edited by" if self.edited else "made by"
        made = f"{made} a trained algorithm" if self.generated else "does not say how it was made"
        signed = f"signed by {self.signer or 'nobody named'}, {'trusted' if self.trusted else 'on no trust list'}"
        parts = [made, self.program, self.model and f"model {self.model}", self.mark and f"mark {self.mark}", signed]
        return f"{self.state}{f' ({self.fault})' if self.fault else ''}: {', '.join(part for part in parts if part)}"


def read_manifest(path: str | Path) -> ManifestState:
    """Returns the state of a file's manifest; `none` also for a kind of file that carries none."""
    import c2pa

    path = Path(path)
    kind = TYPES.get(path.suffix.lower())
    if kind is None:
        return ManifestState("none")
    try:
        with (
            c2pa.Context(settings=c2pa.Settings.from_dict(SETTINGS)) as context,
            open(path, "rb") as file,
            c2pa.Reader(kind, file, context=context) as reader,
        ):
            store = json.loads(reader.json())
    except c2pa.C2paError as error:
        if "ManifestNotFound" in str(error) or "no JUMBF" in str(error):
            return ManifestState("none")
        return ManifestState("invalid", fault=_claim(" ".join(str(error).split())))
    return _state(store)


def _state(store: Any) -> ManifestState:
    """Reads what the library gives: whoever signed may have put anything in the place of anything."""
    active = _object(_object(_object(store).get("manifests")).get(str(_object(store).get("active_manifest"))))
    data = {str(entry.get("label")): _object(entry.get("data")) for entry in _objects(active.get("assertions"))}
    actions = next((entry.get("actions") for label, entry in data.items() if label.startswith("c2pa.actions")), [])
    generator = next(iter(_objects(active.get("claim_generator_info"))), {})
    codes = [_claim(entry.get("code", "")) for entry in _objects(_object(store).get("validation_status"))]
    faults = [code for code in codes if code != "signingCredential.untrusted"]
    kinds = {str(action.get("digitalSourceType")) for action in _objects(actions)}
    details, signature = data.get(DETAILS, {}), _object(active.get("signature_info"))
    state = _object(store).get("validation_state")
    return ManifestState(
        state="invalid" if state == "Invalid" or faults else "valid",
        generated=not kinds.isdisjoint((MADE_BY, EDITED_BY)),
        edited=EDITED_BY in kinds,
        program=" ".join(_claim(generator.get(key, "")) for key in ("name", "version")).strip(),
        model=_claim(details.get("model", "")),
        mark=_claim(details.get("mark", "")),
        signer=_claim(signature.get("common_name") or signature.get("issuer", "")),
        trusted=state == "Trusted",
        fault=", ".join(faults[:5]),
    )


def _object(value: Any) -> dict:
    return value if isinstance(value, dict) else {}


def _objects(value: Any) -> list[dict]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _claim(value: Any) -> str:
    """A word of a manifest, short and without control characters."""
    text = one_line(str(value))
    return text if len(text) <= LONGEST_CLAIM else f"{text[:LONGEST_CLAIM]}[...]"
