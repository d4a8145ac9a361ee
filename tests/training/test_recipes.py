"""Every shipped training configuration, with small networks and cheap data, trains two steps and exports."""

import json
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from stub_face import JUDGES, PARAMS, use_stub
from tiny_face import draw_heads

from vasa_jax.evaluation import face_readings
from vasa_jax.main import parse
from vasa_jax.models.face_probe import SIZE, Anchors
from vasa_jax.training.jobs import train
from vasa_jax.training.tasks import face, face_probe, face_validation
from vasa_jax.weights.safetensors_io import load_params, save_params

ROOT = Path(__file__).parents[2]
TWO_STEPS = ("--config.train.steps=2", "--config.train.batch_size=8", "--config.train.log_every=1")
FACE = ("--config.face.variant=face_least", "--config.corpus.groups=4", "--config.corpus.style=0")
SHRUNK = {
    "train_face": FACE,
    "train_face_vasa": (*FACE, "--config.face.loss_networks=here", "--config.face.transfer_from=1"),
    "train_face_256": (*FACE, "--config.train.init_from=START", "--config.corpus.groups=2"),
    "train_face_decoder": (*FACE, "--config.train.init_from=START"),
    "train_face_gan": (
        *FACE, "--config.face.discriminator_widths=(4, 4)", "--config.face.adversarial_eyes=0.01",
        "--config.face.adversarial_mouth=0.01", "--config.face.gradient_penalty=1",
    ),
    "train_face_probe": ("--config.corpus.supersample=1",),
}
# In test_tasks, test_judges, test_photo_training, test_capp_task, test_sync_task, test_audio_voices,
# test_keypoint_training, test_keypoint_reader, test_lips_task, test_matte_task, test_retargeting_task.
ELSEWHERE = {
    "train_audio", "train_motion", "train_loss_networks", "train_emotion", "train_face_photos", "train_capp",
    "train_audio_voices", "train_sync", "train_face_keypoint", "train_face_keypoint_reader", "train_lips",
    "train_matte", "train_retargeting",
}  # fmt: skip


class LeastFaceProbe(nn.Module):
    """A linear map of the mean colour in the place of the face probe."""

    landmarks: int
    anchors: Anchors
    dtype: type = jnp.float32

    @nn.compact
    def __call__(self, image):
        sizes = {"mouth": (), "lids": (2,), "gaze": (2,), "pose": (9,), "landmarks": (self.landmarks, 2),
                 "embedding": (4,)}  # fmt: skip
        colour = image.astype(jnp.float32).mean((1, 2))
        values = {name: nn.Dense(int(np.prod(size)), name=name)(colour) for name, size in sizes.items()}
        return {name: values[name].reshape(-1, *size) for name, size in sizes.items()}


def labelled_frames(key, identities, motions, supersample):
    """In place of the face probe's renderer."""
    count = identities * motions
    uniform = iter([jax.random.uniform(k, (count, 32)) for k in jax.random.split(key, 5)])
    return {
        "image": jnp.broadcast_to(next(uniform)[:, None, None, :3], (count, SIZE, SIZE, 3)),
        "mouth": next(uniform)[:, 0],
        "lids": next(uniform)[:, :2],
        "gaze": next(uniform)[:, :2],
        "pose": next(uniform)[:, :9],
        "landmarks": jnp.zeros((count, len(face_probe.POINTS), 2)),
        "person": jnp.repeat(jnp.arange(identities), motions),
    }


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    use_stub(monkeypatch)
    draw_heads(monkeypatch)
    monkeypatch.setattr(face_validation, "BATCHES", 1)
    monkeypatch.setattr(face, "load_judges", lambda directory, dtype: JUDGES)
    monkeypatch.setattr(face_probe, "compiled_render_batch", labelled_frames)
    for module in (face_readings, face_probe):
        monkeypatch.setattr(module, "FaceProbe", LeastFaceProbe)


@pytest.mark.parametrize("name", SHRUNK)
def test_configuration_trains_two_steps(tmp_path, name):
    save_params(tmp_path / "start" / "face.safetensors", PARAMS, {}, jnp.float32)
    options = [option.replace("START", str(tmp_path / "start")) for option in SHRUNK[name]]
    config, _ = parse(["main", f"--config={ROOT / 'configs' / name}.py", *TWO_STEPS, *options])
    state = train(config, tmp_path)
    assert int(state.step) == 2
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [1, 2]
    assert any(key.startswith("eval/") for line in lines for key in line)
    assert all(np.isfinite(list(line.values())).all() for line in lines)
    part = {"train_face_probe": "instrument"}.get(config.job, config.job.removeprefix("train_"))
    params, metadata = load_params(tmp_path / "export" / f"{part}.safetensors")
    assert metadata["step"] == 2 and all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))
    assert (state.discriminator is not None) == (name == "train_face_gan")
    if name == "train_face_decoder":
        assert params["encoder"]["dynamics_net"] == PARAMS["encoder"]["dynamics_net"]
        assert params["encoder"]["pose_net"] != PARAMS["encoder"]["pose_net"]
        assert params["decoder"]["matte"] != PARAMS["decoder"]["matte"]
    if name == "train_face_gan":
        told = {"discriminator", "discriminator_gradient_norm", "feature_matching", "adversarial_eyes"}
        assert {*told, "adversarial_mouth", "gradient_penalty"} <= lines[0].keys()
    if name == "train_face_vasa":
        assert [line["weight/pairwise_transfer"] for line in lines if "loss" in line] == [0, 1]


def test_every_training_configuration_is_among_them():
    assert {path.stem for path in (ROOT / "configs").glob("train_*.py")} == {*SHRUNK, *ELSEWHERE}
