"""Job import_weights: folders of open files, synthesised in their published layouts, in and out."""

import functools
import hashlib
import json
import pickle
import shutil

import jax
import numpy as np
import pytest
from flax import traverse_util
from joyvasa_files import joyvasa_state, write_joyvasa
from official_state import GOLDEN, live_portrait_files, random_state
from public_encoders import public_state, random_encoder
from safetensors.numpy import save_file
from torch_files import tensors, write_legacy, write_zip

from vasa_jax.errors import InputError
from vasa_jax.generation.animator import PortraitAnimator
from vasa_jax.main import main
from vasa_jax.weights import importer
from vasa_jax.weights.importer import import_weights
from vasa_jax.weights.liveportrait import load_live_portrait
from vasa_jax.weights.parts import load_part
from vasa_jax.weights.published_tables import (
    DITTO_ROTARY,
    difference,
    ditto_table,
    face_model_table,
    i3d_table,
    inception_table,
    joyvasa_table,
    syncnet_table,
)
from vasa_jax.weights.safetensors_io import load_params

DITTO_NAMES = {
    "appearance_feature_extractor": "appearance_extractor",
    "motion_extractor": "motion_extractor",
    "warping_module": "warp_network",
    "spade_generator": "decoder",
    "stitching_retargeting_module": "stitch_network",
}


@functools.cache
def live_portrait():
    return live_portrait_files()


def write_live_portrait(folder, names=None):
    folder.mkdir(parents=True)
    for part, content in live_portrait().items():
        write_zip(folder / f"{(names or {}).get(part, part)}.pth", tensors(content))


def golden_tables():
    return {
        name: {key: tuple(int(n) for n in shape.split("x") if n) for key, shape in table.items()}
        for name, table in json.loads((GOLDEN / "open_keys.json").read_text()).items()
    }


def params_of(path):
    return load_params(path)[0]


def test_key_tables_are_those_of_the_official_modules():
    golden = golden_tables()
    zeros = {name: np.broadcast_to(np.float32(0), shape) for name, shape in golden["joyvasa"].items()}
    assert joyvasa_table(zeros) == golden["joyvasa"]
    assert ditto_table() | DITTO_ROTARY == golden["ditto"]
    assert syncnet_table() == golden["syncnet"]
    assert i3d_table() == golden["i3d"]
    assert difference(zeros, golden["joyvasa"]) == ""


def test_live_portrait_becomes_a_codec(tmp_path, capsys):
    write_live_portrait(tmp_path / "in" / "base_models")
    (tmp_path / "in" / "README.md").write_text("not a weight file")
    bill = import_weights(tmp_path / "in", tmp_path / "out")
    params, metadata = load_part(tmp_path / "out", "face")
    paths = {part: tmp_path / "in" / "base_models" / f"{part}.pth" for part in live_portrait()}
    expected, fields = load_live_portrait(paths)
    jax.tree.map(np.testing.assert_array_equal, params, expected)
    assert metadata["fields"] == json.loads(json.dumps(fields))
    assert metadata["framing"] == "live_portrait"
    assert metadata["origin"] == bill[0] and metadata["origin"]["licence"] == "MIT"
    assert {file["name"] for file in metadata["origin"]["made_from"]} == {path.name for path in paths.values()}
    printed = capsys.readouterr().out
    assert "face.safetensors" in printed and "MIT" in printed and "not cleared for commercial use: nothing" in printed
    assert json.loads((tmp_path / "out" / "bill_of_materials.json").read_text())["parts"] == bill
    assert not list((tmp_path / "out").rglob("*.part"))


def test_an_imported_codec_moves_a_portrait(tmp_path):
    """The same animator as the volume codec's: encoded, moved by another picture, drawn."""
    write_live_portrait(tmp_path / "in")
    import_weights(tmp_path / "in", tmp_path / "out")
    params, metadata = load_part(tmp_path / "out", "face")
    metadata["fields"]["encoder"] |= {"image_size": 128, "input_size": 64}
    animator = PortraitAnimator((params, metadata), decode_batch=2)
    portrait, driving = np.random.default_rng(0).integers(0, 256, (2, 128, 128, 3), np.uint8)
    avatar = animator.prepare(portrait)
    motion = animator.encode_motion(np.stack([portrait, driving]))
    assert motion.shape == (2, 9 + 15)
    np.testing.assert_allclose(motion[0], avatar.motion, atol=1e-5)
    (frames,) = animator.render(avatar, motion)
    assert frames.shape == (2, 128, 128, 3) and np.abs(frames[0].astype(int) - frames[1]).max() > 5


def test_dittos_copy_of_live_portrait_is_the_same(tmp_path):
    write_live_portrait(tmp_path / "a")
    write_live_portrait(tmp_path / "b", DITTO_NAMES)
    for name in "ab":
        import_weights(tmp_path / name, tmp_path / f"{name}_out")
    jax.tree.map(
        np.testing.assert_array_equal, *(params_of(tmp_path / f"{name}_out" / "face.safetensors") for name in "ab")
    )


def test_one_network_in_several_formats_counts_once(tmp_path):
    """Two publishers' downloads in one folder, one of them in safetensors with flat names."""
    folder = tmp_path / "in"
    write_live_portrait(folder / "a")
    write_live_portrait(folder / "b", DITTO_NAMES)
    for part, content in live_portrait().items():
        flat = traverse_util.flatten_dict(content)
        names = {path: "_module.".join(path).replace("_module.module.", "_module.") for path in flat}
        save_file({names[path]: np.ascontiguousarray(value) for path, value in flat.items()},
                  folder / f"{part}.safetensors")  # fmt: skip
    for name, content in (("landmark.onnx", b"one"), ("b/landmark203.onnx", b"another")):
        (folder / name).write_bytes(content)
    bill = import_weights(folder, tmp_path / "out")
    assert [entry["file"] for entry in bill] == ["face.safetensors", "landmark.onnx"]
    assert len(bill[0]["made_from"]) == 5 and (tmp_path / "out" / "landmark.onnx").read_bytes() == b"one"


def test_people_and_animals_are_kept_apart(tmp_path):
    """In one download; of the animals' two versions the newer is taken."""
    write_live_portrait(tmp_path / "in" / "liveportrait" / "base_models")
    for version in ("base_models", "base_models_v1.1"):
        write_live_portrait(tmp_path / "in" / "liveportrait_animals" / version)
    older = tmp_path / "in" / "liveportrait_animals" / "base_models" / "spade_generator.pth"
    write_zip(older, tensors({"G_middle_0.conv_0.bias": np.zeros(3, np.float32)}))
    (tmp_path / "in" / "liveportrait_animals" / "xpose.pth").write_bytes(b"never opened")
    bill = import_weights(tmp_path / "in", tmp_path / "out")
    assert [entry["file"] for entry in bill] == ["face.safetensors", "animals/face.safetensors"]
    left = json.loads((tmp_path / "out" / "bill_of_materials.json").read_text())["left"]
    assert any("non-commercial" in why for why in left.values())


def test_links_into_a_hubs_cache_are_followed(tmp_path):
    """A hub's client keeps files under their hashes elsewhere, and links them under their names."""
    blobs, snapshot = tmp_path / "blobs_of_animals", tmp_path / "snapshot"
    write_live_portrait(blobs)
    snapshot.mkdir()
    for path in blobs.iterdir():
        (snapshot / path.name).symlink_to(path)
    (entry,) = import_weights(snapshot, tmp_path / "out")
    assert entry["file"] == "face.safetensors"


def test_joyvasa(tmp_path):
    write_joyvasa(tmp_path / "in")
    import_weights(tmp_path / "in", tmp_path / "out")
    params, metadata = load_params(tmp_path / "out" / "joyvasa_motion.safetensors")
    found = traverse_util.flatten_dict(params, sep=".")
    expected = {name: value for name, value in joyvasa_state().items() if not name.startswith("audio_encoder.")}
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)
    assert metadata["fields"] == {"motion": 7, "width": 8, "window": 8, "previous": 3, "steps": 5}
    assert metadata["settings"] == {"n_layers": 6, "data": "/data"}
    audio, metadata = load_params(tmp_path / "out" / "joyvasa_audio.safetensors")
    assert (metadata["fields"]["waveform"], metadata["fields"]["waveform_scale"]) == ("scale", 1.0)
    np.testing.assert_array_equal(
        audio["feature_projection"]["projection"]["kernel"],
        random_encoder("base")["feature_projection"]["projection"]["kernel"],
    )
    template = params_of(tmp_path / "out" / "joyvasa_template.safetensors")
    np.testing.assert_array_equal(template["min_scale"], [np.float32(1.1)])


def test_ditto(tmp_path, monkeypatch):
    """At small sizes: the published ones take 191 MB."""
    small = ditto_table(8, 5, 7, 4)
    monkeypatch.setattr(importer, "ditto_table", lambda: small)
    rotary = dict.fromkeys(DITTO_ROTARY, np.arange(256, dtype=np.float32))
    state = random_state(small) | rotary
    folder = tmp_path / "in"
    folder.mkdir()
    write_zip(folder / "lmdm_v0.4_hubert.pth", {"model_state_dict": tensors(state)})
    settings = {
        "base_cfg": {"size": (1, 2), "none": None, "v_min_max_for_clip": np.ones((4, 5), np.float32)},
        "audio2motion_cfg": {"overlap": np.int64(10), "name": "lmdm"},
        "default_kwargs": {},
    }
    (folder / "v0.4_hubert_cfg_pytorch.pkl").write_bytes(pickle.dumps(settings))
    (folder / "hubert_streaming_fix_kv.onnx").write_bytes(b"an ONNX graph")
    import_weights(folder, tmp_path / "out")
    assert (tmp_path / "out" / "hubert_streaming_fix_kv.onnx").read_bytes() == b"an ONNX graph"
    found = traverse_util.flatten_dict(params_of(tmp_path / "out" / "ditto_motion.safetensors"), sep=".")
    assert set(found) == set(small) | {"rotary.freqs"}
    np.testing.assert_array_equal(found["final_layer.weight"], state["final_layer.weight"])
    arrays, metadata = load_params(tmp_path / "out" / "ditto_config" / "v0.4_hubert_cfg_pytorch.safetensors")
    np.testing.assert_array_equal(arrays["base_cfg"]["v_min_max_for_clip"], np.ones((4, 5)))
    assert metadata["settings"]["base_cfg"] == {"size": [1, 2], "none": None}
    assert metadata["settings"]["audio2motion_cfg"] == {"overlap": 10, "name": "lmdm"}

    state["cond_encoder.1.rotary.freqs"] = rotary["rotary.freqs"] + 1
    write_zip(folder / "lmdm_v0.4_hubert.pth", {"model_state_dict": tensors(state)})
    with pytest.raises(InputError, match="tables of rotary frequencies differ"):
        import_weights(folder, tmp_path / "again")


def zeros(table):
    return tensors({name: np.zeros(shape, np.float16) for name, shape in table.items()})


def test_judges_and_landmarks(tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    write_legacy(folder / "syncnet_v2.model", zeros(syncnet_table()))
    write_zip(folder / "i3d_pretrained_400.pt", zeros(i3d_table()))
    write_zip(folder / "pt_inception-2015-12-05-6726825d.pth", zeros(inception_table()))
    write_zip(folder / "epoch_20.pth", {"net_recon": zeros(face_model_table())})
    (folder / "landmark.onnx").write_bytes(b"an ONNX graph")
    (folder / "det_10g.onnx").write_bytes(b"never opened")
    bill = import_weights(folder, tmp_path / "out")
    judges = ["syncnet.safetensors", "i3d.safetensors", "inception.safetensors", "face_model.safetensors"]
    assert [entry["file"] for entry in bill] == [*judges, "landmark.onnx"]
    assert (tmp_path / "out" / "landmark.onnx").read_bytes() == b"an ONNX graph"
    found = traverse_util.flatten_dict(params_of(tmp_path / "out" / "syncnet.safetensors"), sep=".")
    assert {name: value.shape for name, value in found.items()} == syncnet_table()
    printed = capsys.readouterr().out
    assert f"not cleared for commercial use: {', '.join(judges)}" in printed
    assert "det_10g.onnx (InsightFace, non-commercial" in printed


@pytest.mark.parametrize("folder, licence", [("chinese-hubert-base", "MIT"), ("x", "not told by the file")])
def test_an_audio_encoder(tmp_path, folder, licence):
    path = tmp_path / "in" / folder
    path.mkdir(parents=True)
    write_zip(path / "pytorch_model.bin", tensors(public_state(random_encoder("base"))))
    (entry,) = import_weights(tmp_path / "in", tmp_path / "out")
    assert entry["licence"] == licence
    params, metadata = load_part(tmp_path / "out", "audio")
    assert metadata["fields"]["waveform"] == "utterance" and "encoder" in params


def test_known_files_are_named_by_their_hash(tmp_path, monkeypatch):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "landmark.onnx").write_bytes(b"a network")
    hashed = hashlib.sha256(b"a network").hexdigest()
    monkeypatch.setitem(importer.KNOWN, hashed, "a published one")
    (entry,) = import_weights(folder, tmp_path / "out")
    assert entry["made_from"] == [{"name": "landmark.onnx", "sha256": hashed, "published_as": "a published one"}]


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1234\n"


def damaged(name):
    """A change of the folder, and what is said of it."""
    generator, joyvasa = "spade_generator.pth", "motion_generator_hubert_chinese.pt"
    return {
        "unknown tensors": (
            lambda folder: save_file({"features.0.weight": np.zeros(3, np.float32)}, folder / "vgg.safetensors"),
            "vgg.safetensors: no known file (it holds features.0.weight)",
        ),
        "a whole module": (
            lambda folder: (folder / "model.pth").write_bytes(pickle.dumps(InputError("an object"))),
            "model.pth: asks for 'vasa_jax.errors.InputError'",
        ),
        "cut short": (
            lambda folder: (folder / generator).write_bytes((folder / generator).read_bytes()[:1000]),
            f"{generator}: damaged or no such format",
        ),
        "a part is missing": (
            lambda folder: (folder / generator).unlink(),
            "LivePortrait's spade_generator is missing",
        ),
        "told by its name only": (
            lambda folder: write_zip(folder / generator, tensors({"fc.bias": np.zeros(3, np.float32)})),
            f"{generator}: no tensor 'up_1.conv_0.weight'",
        ),
        "two of a kind": (
            lambda folder: write_zip(folder / "z.pth", tensors({"G_middle_0.conv_0.bias": np.zeros(3, np.float32)})),
            "is of the same kind; leave one of them",
        ),
        "other numbers in another format": (
            lambda folder: save_file(
                {name: np.add(value, [1]) for name, value in live_portrait()["warping_module"].items()},
                folder / "w.safetensors",
            ),
            "w.safetensors is of the same kind; leave one of them",
        ),
        "an animal's among people's": (
            lambda folder: write_zip(
                folder / "animal_motion_extractor.pth",
                tensors({name: value * 2 for name, value in live_portrait()["motion_extractor"].items()}),
            ),
            "is of the same kind; leave one of them",
        ),
        "two decoders of Ditto": (
            lambda folder: [
                write_zip(folder / f"lmdm_{i}.pth", tensors({"seqTransDecoder.x": np.full(2, i, np.float32)}))
                for i in range(2)
            ],
            "lmdm_1.pth: ",
        ),
        "two settings of Ditto": (
            lambda folder: [
                ((folder / name).mkdir(), (folder / name / "cfg.pkl").write_bytes(pickle.dumps(ditto_settings(name))))
                for name in "ab"
            ],
            "cfg.pkl is of the same kind; leave one of them",
        ),
        "another generator": (
            lambda folder: write_zip(folder / joyvasa, {"model": tensors({"denoising_net.x": np.zeros(2)})}),
            f"{joyvasa}: no tensor 'start_motion_feat'",
        ),
        "no statistics": (
            lambda folder: (folder / "t.pkl").write_bytes(pickle.dumps({"mean_exp": 1.0, "std_exp": 1.0})),
            "t.pkl: no statistic 'min_scale'",
        ),
        "a clone without its large files": (
            lambda folder: (folder / generator).write_bytes(POINTER), f"{generator}: is git-lfs's pointer to the file"
        ),
        "a pointer to a network": (
            lambda folder: (folder / "landmark.onnx").write_bytes(POINTER), "landmark.onnx: is git-lfs's pointer"
        ),
        "a page about a file": (
            lambda folder: (folder / "w.safetensors").write_bytes(b"\n<!DOCTYPE html><html>404</html>"),
            "w.safetensors: is a web page; download the file itself",
        ),
        "an empty file": (lambda folder: (folder / generator).write_bytes(b""), f"{generator}: is empty; download it"),
        "a header cut short": (
            lambda folder: (folder / "w.safetensors").write_bytes(b"\x00\x01"),
            "is cut or too large); download it again",
        ),
        "a link to nothing": (
            lambda folder: ((folder / generator).unlink(), (folder / generator).symlink_to("blobs/none")),
            f"{generator}: is a link to a file that is not there; download it again",
        ),
        "an archive alone": (
            lambda folder: (shutil.rmtree(folder), folder.mkdir(), (folder / "all.zip").write_bytes(b"PK")),
            "unpack all.zip",
        ),
        "nothing": (lambda folder: (shutil.rmtree(folder), folder.mkdir()), "has no known weight file"),
        "no folder": (shutil.rmtree, "is no folder"),
    }[name]


def ditto_settings(name):
    return {"base_cfg": {"name": name}, "audio2motion_cfg": {}}


FAULTS = (
    "unknown tensors", "a whole module", "cut short", "a part is missing", "told by its name only", "two of a kind",
    "other numbers in another format", "an animal's among people's", "two decoders of Ditto", "two settings of Ditto",
    "another generator", "no statistics", "a clone without its large files", "a pointer to a network",
    "a page about a file", "an empty file", "a header cut short", "a link to nothing", "an archive alone", "nothing",
    "no folder",
)  # fmt: skip


@pytest.fixture(scope="module")
def download(tmp_path_factory):
    folder = tmp_path_factory.mktemp("download") / "in"
    write_live_portrait(folder)
    return folder


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_one_line_and_nothing_is_written(tmp_path, download, name):
    folder = tmp_path / "in"
    shutil.copytree(download, folder)
    change, fault = damaged(name)
    change(folder)
    with pytest.raises(InputError) as error:
        import_weights(folder, tmp_path / "out")
    text = str(error.value)
    assert fault in text and str(folder) in text and "\n" not in text
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("value", [True, "text", 5, None, [1]])
@pytest.mark.parametrize(
    ("name", "content"),
    [("lmdm_v0.4_hubert.pth", "model_state_dict"), ("motion_generator_hubert_chinese.pt", "model")],
)
def test_a_checkpoint_without_tensors_is_one_line(tmp_path, name, content, value):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_bytes(pickle.dumps({content: value, "epoch": 1}))
    with pytest.raises(InputError, match=rf"{name}: '{content}' holds no named tensors; download") as caught:
        import_weights(tmp_path / "in", tmp_path / "out")
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()


def test_the_command(tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "landmark.onnx").write_bytes(b"graph")
    command = ["main", "--config=configs/import_weights.py", f"--config.files={folder}"]
    assert main([*command, f"--config.output={tmp_path / 'out'}"]) == 0
    assert "landmark.onnx" in capsys.readouterr().out
    for extra, fault in ((), "config.output: is empty"), ((f"--config.output={folder}",), "give another folder"):
        assert main([*command, *extra]) == 2
        assert fault in capsys.readouterr().err
    assert main(command[:2]) == 2
    assert "config.files: is empty" in capsys.readouterr().err
