"""What networks say of pictures and their truth, by networks whose answers are known."""

import jax.numpy as jnp
import numpy as np
import pytest

from vasa_jax.errors import InputError
from vasa_jax.evaluation.picture_judges import PictureJudges
from vasa_jax.losses.perceptual import FeatureJudge, Judges

PLAIN = FeatureJudge(lambda params, image: [params["gain"] * image], (1.0,), scales=1, relative=False)
PARAMS = {"vgg19": {"gain": jnp.float32(2.0)}, "identity": {}}


def colour(_, image):
    return image.mean((1, 2))


def pictures(*values):
    return np.stack([np.broadcast_to(np.uint8(value), (8, 8, 3)) for value in values])


def test_means_are_over_pairs_however_many_are_compared_at_once():
    a = pictures(*([[255, 0, 0]] * 11), [0, 255, 0])
    b = pictures(*([[255, 0, 0]] * 11), [255, 0, 0])
    found = PictureJudges(Judges(PARAMS, {"vgg19": PLAIN}, colour), arcface=True).compare(a, b)
    assert found["csim"] == pytest.approx(11 / 12, abs=1e-6)
    assert found["features_vgg19"] == pytest.approx(2.0 * (2 / 3) / 12, abs=1e-6)
    assert set(found) == {"csim", "features_vgg19"}


def test_only_arcface_is_called_csim_and_only_what_is_there_speaks():
    a = pictures([255, 0, 0], [0, 255, 0])
    assert set(PictureJudges(Judges(PARAMS, {}, colour), arcface=False).compare(a, a)) == {"identity_judge"}
    assert set(PictureJudges(Judges(PARAMS, {"vgg19": PLAIN}), arcface=False).compare(a, a)) == {"features_vgg19"}


def test_a_judge_of_faces_is_not_shown_whole_pictures():
    faces = FeatureJudge(PLAIN.features, (1.0,), faces=True)
    a = pictures([255, 0, 0])
    assert not PictureJudges(Judges(PARAMS, {"vggface": faces}, colour), True).compare(a, a).keys() - {"csim"}


def test_a_folder_without_networks_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"has none of judge, vgg19.*give their folder, or leave it empty"):
        PictureJudges.open(tmp_path)
