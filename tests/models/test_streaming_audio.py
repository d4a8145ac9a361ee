"""StreamingAudioEncoder: a stream hears what a file hears, with a bounded past and future."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_params import random_params

from vasa_jax.generation.speech_features import PIECE, FeatureStream, SpeechFeatures
from vasa_jax.models.audio import pad_for_video, pair_mean
from vasa_jax.models.audio_encoders import audio_encoder, audio_encoder_class
from vasa_jax.models.streaming_audio import LOOK_AHEAD, StreamingAudioEncoder, context_samples, silent_state
from vasa_jax.models.variants import AUDIO_VARIANTS

STREAMING = [name for name, fields in AUDIO_VARIANTS.items() if audio_encoder_class(fields) is StreamingAudioEncoder]
TINY = AUDIO_VARIANTS["audio_stream_tiny"]


def sound(frames, seed=0):
    """Noise whose loudness wanders, and 333 samples more than whole frames."""
    rng = np.random.default_rng(seed)
    loud = np.interp(np.arange(640 * frames + 333), np.linspace(0, 640 * frames, 7), rng.uniform(0, 0.4, 7))
    return (loud * rng.standard_normal(640 * frames + 333)).astype(np.float32)


@pytest.fixture(scope="module")
def tiny():
    encoder = audio_encoder(TINY)
    return encoder, random_params(encoder.init, jnp.zeros((1, 16_080)))["params"]


@pytest.mark.parametrize("name", STREAMING)
def test_its_size(name):
    encoder = audio_encoder(AUDIO_VARIANTS[name])
    shapes = jax.eval_shape(encoder.init, jax.random.key(0), jnp.zeros((1, 16_080)))["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) < 3_000_000
    assert shapes["encoder"]["layer_norm"]["bias"].shape == (encoder.width,)


@pytest.mark.parametrize("frames", [1, 2, PIECE - 1, 2 * PIECE + 7])
def test_a_stream_hears_exactly_what_a_file_gives(tiny, frames):
    """However the sound is cut: single samples, pieces of any length, all at once."""
    _, params = tiny
    samples = sound(frames)
    whole = SpeechFeatures(params, TINY)(samples)
    assert whole.shape == (frames + 1, TINY["width"]) and np.isfinite(whole).all()
    rng, cuts = np.random.default_rng(frames), []
    while sum(cuts) < len(samples):
        cuts.append(int(rng.choice([1, 80, 639, 640, 641, 5000, 60_000])))
    stream, given, first = FeatureStream(audio_encoder(TINY), params), [], 0
    for cut in cuts:
        given.append(stream.feed(samples[first : first + cut]))
        first += cut
    np.testing.assert_array_equal(np.concatenate([*given, stream.finish()]), whole)


def test_features_come_as_soon_as_the_look_ahead_is_in(tiny):
    stream = FeatureStream(*tiny)
    counts = [len(stream.feed(sound(1, seed)[:640])) for seed in range(5)]
    assert counts == [0] * LOOK_AHEAD + [1] * (5 - LOOK_AHEAD)


@pytest.mark.parametrize("name", STREAMING)
def test_training_hears_what_a_stream_hears(name):
    """The whole sound at once, up to the order in which sums are taken."""
    fields = AUDIO_VARIANTS[name]
    encoder = audio_encoder(fields)
    params = random_params(encoder.init, jnp.zeros((1, 16_080)))["params"]
    samples = sound(9)
    at_once = pair_mean(jax.jit(encoder.apply)({"params": params}, pad_for_video(samples)[None]))[0]
    np.testing.assert_allclose(SpeechFeatures(params, fields)(samples), at_once, atol=2e-3, rtol=1e-3)


def test_a_batch_is_its_members(tiny):
    encoder, params = tiny
    samples = np.stack([pad_for_video(sound(6, seed)) for seed in range(3)])
    hear = jax.jit(encoder.apply)
    together = hear({"params": params}, samples)
    alone = [hear({"params": params}, row[None])[0] for row in samples]
    np.testing.assert_allclose(together, np.stack(alone), atol=1e-4)


def test_later_sound_changes_nothing_before_it(tiny):
    """Frame i hears up to 640 (i + 1 + LOOK_AHEAD), and does hear that far."""
    features = SpeechFeatures(tiny[1], TINY)
    samples = sound(20)
    whole = features(samples)
    changed = samples.copy()
    changed[640 * 10 :] = 0.3
    differs = np.abs(features(changed) - whole).max(1) > 0
    assert not differs[: 10 - LOOK_AHEAD].any() and differs[10 - LOOK_AHEAD : 12].all()


def test_earlier_sound_is_forgotten(tiny):
    encoder, params = tiny
    features, samples = SpeechFeatures(params, TINY), sound(20)
    changed = samples.copy()
    changed[:640] = 0.3
    # A frame hears `context` samples before its look-ahead's end less two whole frames.
    context = context_samples(encoder.kernel, encoder.dilations)
    last = 1 + -(-context // 640)
    differs = np.abs(features(changed) - features(samples)).max(1) > 0
    assert differs[0] and not differs[last:].any()


def test_silence_is_a_steady_state(tiny):
    """A stream that begins is one that has heard silence for ever."""
    encoder, params = tiny
    state = silent_state(encoder, params)
    later, _ = encoder.apply({"params": params}, state, jnp.zeros((1, 64_000)), method="step")
    for before, after in zip(state, later, strict=True):
        np.testing.assert_allclose(before, after, atol=1e-4)


@pytest.mark.parametrize("change", [{"ahead": (1, 0)}, {"dilations": (1, 1, 1)}, {"kernel": 1}])
def test_another_look_ahead_is_refused(change):
    with pytest.raises(ValueError):
        StreamingAudioEncoder(**TINY | change).init(jax.random.key(0), jnp.zeros((1, 4000)))
