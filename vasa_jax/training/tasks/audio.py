"""The small audio encoders: they name the phoneme, stress and loudness of every 20 ms of speech.

The speech is the built-in corpus's, or that of shards with many voices (job speech_corpus).
Its features then stand where the paper uses wav2vec2's (VASA-1 section 3.2).
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding

from vasa_jax.config import AudioConfig, CorpusConfig, VASAConfig
from vasa_jax.conventions import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME, TAIL
from vasa_jax.corpus.clip_set import FRAMES, SAMPLES, ClipSet, as_int16, fitted
from vasa_jax.corpus.speech.phonemes import PHONEME_CLASSES
from vasa_jax.corpus.voices.speech_set import SpeechSet, joined, make_speech_set, of_clips, shares_of
from vasa_jax.corpus.voices.speech_shards import UNKNOWN_STRESS, Passage, find_shards, read_passages
from vasa_jax.data.step_iterator import StepIterator
from vasa_jax.dtypes import compute_dtype
from vasa_jax.errors import InputError
from vasa_jax.evaluation import phoneme_naming
from vasa_jax.files import fingerprint
from vasa_jax.models.audio import PhonemeHead
from vasa_jax.models.audio_encoders import audio_encoder
from vasa_jax.models.streaming_audio import StreamingAudioEncoder
from vasa_jax.models.variants import AUDIO_VARIANTS
from vasa_jax.rng import named_key
from vasa_jax.training.mel_changes import changed_mels
from vasa_jax.training.processes import ProcessPart
from vasa_jax.training.tasks.base import Task, clip_settings
from vasa_jax.training.tasks.speech_crops import SpeechCrops
from vasa_jax.training.teacher import Teacher

HELD_OUT_CLIPS = 32


class ClipCrops(StepIterator):
    """Iterator of random crops of a clip set that lives in device memory.

    Of P processes each draws batch_size / P examples from clips that no other process draws from.
    """

    def __init__(self, clips: ClipSet, seconds: float, batch_size: int, seed: int):
        self._arrays = {name: jnp.asarray(getattr(clips, name)) for name in ("samples", "phonemes", "stress", "energy")}
        self._frames = min(round(seconds * FPS), FRAMES)
        self._part = ProcessPart(batch_size, len(clips.samples))
        self._batch, self._key = self._part.batch, self._part.key(named_key(seed, "audio"))
        self._draw = jax.jit(self._crops)

    def batch(self, step: int) -> dict[str, jax.Array]:
        """Returns samples (B, 640 T + 80) int16 and phonemes, stress, energy (B, 2 T)."""
        return self._draw(self._arrays, step)

    def _crops(self, arrays, step):
        keys = jax.random.split(jax.random.fold_in(self._key, step), 3)
        voices = arrays["samples"].shape[1]
        which = self._part.draw_clips(keys[0])
        voice = jax.random.randint(keys[1], (self._batch,), 0, voices)
        start = jax.random.randint(keys[2], (self._batch,), 0, FRAMES - self._frames + 1)

        def crop(clip, voice, start):
            def part(x, first, length):
                return jax.lax.dynamic_slice_in_dim(x, first, length)

            sound = jax.lax.dynamic_slice(
                arrays["samples"],
                (clip, voice, start * SAMPLES_PER_FRAME),
                (1, 1, self._frames * SAMPLES_PER_FRAME + TAIL),
            )[0, 0]
            labels = {n: part(arrays[n][clip], 2 * start, 2 * self._frames) for n in ("phonemes", "stress", "energy")}
            return {"samples": sound, **labels}

        return jax.vmap(crop)(which, voice, start)


class AudioTask(Task):
    """Trains an audio encoder and its read-outs."""

    name = "audio"

    def __init__(self, speech: AudioConfig, corpus: CorpusConfig, batch_size: int, precision: str, seed: int):
        self._speech, self._corpus, self._batch, self._seed = speech, corpus, batch_size, seed
        self._variant = AUDIO_VARIANTS[speech.variant]
        self._encoder = audio_encoder(self._variant, compute_dtype(precision))
        self._head = PhonemeHead(len(PHONEME_CLASSES))
        if speech.mel_changes and not isinstance(self._encoder, StreamingAudioEncoder):
            said = f"config.speech.mel_changes: {speech.variant} hears sound itself, not log mels"
            raise InputError(f"{said}; leave it at 0, or take a variant audio_stream")
        self._teacher = Teacher(speech.teacher) if speech.teacher else None
        self._pupil = nn.Dense(self._teacher.width) if self._teacher else None
        if speech.teacher and not speech.shards:
            raise InputError("config.speech.teacher: needs config.speech.shards; give a folder of job speech_corpus")
        self._held_out: ClipSet | None = None
        self._unheard: list[Passage] | None = None
        self._guess = jax.jit(self._phonemes)

    @classmethod
    def from_config(cls, config: VASAConfig) -> "AudioTask":
        train = config.train
        return cls(config.speech, config.corpus, train.batch_size, train.precision, config.seed)

    def init(self, key: jax.Array) -> dict[str, Any]:
        keys = jax.random.split(key)
        width = self._variant["width"]
        params = {
            "encoder": self._encoder.init(keys[0], jnp.zeros((1, SAMPLE_RATE)))["params"],
            "head": self._head.init(keys[1], jnp.zeros((1, 1, width)))["params"],
        }
        if self._pupil is not None:
            params["pupil"] = self._pupil.init(jax.random.fold_in(key, 2), jnp.zeros((1, 1, width)))["params"]
        return params

    def data(self, sharding: NamedSharding | None = None) -> ClipCrops | SpeechCrops:
        if self._speech.shards:
            speech = self._many_voices()
            features = self._teacher(speech.samples) if self._teacher else None
            return SpeechCrops(speech, self._speech.seconds, self._batch, self._seed, features)
        clips = ClipSet.make(self._corpus, self._corpus.clips, "train", self._seed)
        return ClipCrops(clips, self._speech.seconds, self._batch, self._seed)

    def data_settings(self) -> dict[str, Any]:
        names = ("seconds", "versions", "codecs", "espeak_share", "person_seconds", "corpus_share")
        if self._speech.teacher:
            names += ("teacher",)
        chosen = names if self._speech.shards else names[:1]
        known = {f"speech.{name}": getattr(self._speech, name) for name in chosen}
        if self._speech.shards:
            shards = find_shards(self._speech.shards)
            known["speech.shards"] = fingerprint([[path.name, path.stat().st_size] for path in shards])
        return {**known, **clip_settings(self._corpus)}

    def loss(self, params, batch, key):
        samples = batch["samples"].astype(jnp.float32) / 32767.0
        keys = jax.random.split(key, 3)
        count = samples.shape[0]
        # Level and a little noise, so that quiet and poor recordings are not silence.
        gain = jnp.exp(jax.random.uniform(keys[0], (count, 1), minval=jnp.log(0.25), maxval=jnp.log(2.0)))
        noise = jnp.exp(jax.random.uniform(keys[1], (count, 1), minval=jnp.log(1e-5), maxval=jnp.log(1e-2)))
        samples = samples * gain + noise * jax.random.normal(keys[2], samples.shape)
        features = self._features(params, samples, jax.random.fold_in(key, 3))
        logits, stress, energy = self._head.apply({"params": params["head"]}, features)
        phoneme = optax.softmax_cross_entropy_with_integer_labels(logits, batch["phonemes"].astype(jnp.int32)).mean()
        known = batch["stress"] != UNKNOWN_STRESS  # some sources do not tell it
        stressed = optax.sigmoid_binary_cross_entropy(stress, batch["stress"].astype(jnp.float32))
        stressed = jnp.where(known, stressed, 0.0).sum() / jnp.maximum(known.sum(), 1)
        loudness = jnp.square(energy - batch["energy"].astype(jnp.float32)).mean()
        accuracy = (logits.argmax(-1) == batch["phonemes"]).mean()
        terms = {"phoneme": phoneme, "stress": stressed, "energy": loudness, "accuracy": accuracy}
        total = phoneme + 0.5 * stressed + 0.2 * loudness
        if self._pupil is not None:
            error = self._pupil.apply({"params": params["pupil"]}, features) - batch["taught"].astype(jnp.float32)
            terms["taught"] = jnp.square(error).mean()
            total += self._speech.teacher_weight * terms["taught"]
        return total, terms

    def evaluate(self, params) -> dict[str, float]:
        if self._speech.shards:
            return self._on_unheard_voices(params)
        if self._held_out is None:
            self._held_out = ClipSet.make(self._corpus, min(HELD_OUT_CLIPS, self._corpus.clips), "heldout", 0)
        clips = self._held_out
        accuracy = {}
        for version in range(clips.samples.shape[1]):
            guess = self._guess(params, clips.samples[:, version])
            accuracy[f"accuracy_voice_{version}"] = float(np.mean(np.asarray(guess) == clips.phonemes))
        return accuracy

    def _many_voices(self) -> SpeechSet:
        """Returns the shards' passages for training, with the corpus's own clips where they have a share."""
        speech, corpus = self._speech, self._corpus
        passages = read_passages(speech.shards, "train")
        shares = shares_of(passages, speech.espeak_share, speech.person_seconds)
        made = make_speech_set(passages, speech.versions, speech.codecs, shares, self._seed, corpus.workers)
        if not speech.corpus_share:
            return made
        clips = of_clips(ClipSet.make(corpus, corpus.clips, "train", self._seed))
        return joined(made, clips, speech.corpus_share)

    def _on_unheard_voices(self, params) -> dict[str, float]:
        """Returns the figures of phoneme_naming for each source's held-out voices, as `<source>_<figure>`."""
        if self._unheard is None:
            self._unheard = read_passages(self._speech.shards, "heldout")
        parts: dict[str, list] = {}
        for passage in self._unheard:
            samples = fitted(as_int16(passage.samples), SAMPLES)[None]
            guess = np.asarray(self._guess(params, samples))[0, : len(passage.phonemes)]
            truth = passage.phonemes[: 2 * FRAMES].astype(np.int32)
            parts.setdefault(passage.source, []).append(phoneme_naming.counts(guess[: len(truth)], truth))
        return {
            f"{source}_{name}": share
            for source, counted in sorted(parts.items())
            for name, share in phoneme_naming.shares(counted).items()
        }

    def export(self, params) -> tuple[dict[str, Any], dict[str, Any]]:
        return params["encoder"], {"variant": self._speech.variant, "fields": self._variant}

    def _features(self, params, samples, key):
        """Returns features as training hears and drops them."""
        speech, variables, keys = self._speech, {"params": params["encoder"]}, jax.random.split(key)
        if speech.mel_changes:
            mels = self._encoder.apply(variables, samples, method="spectrum")
            mels = changed_mels(mels, keys[0], speech.mel_changes)
            features = self._encoder.apply(variables, mels, method="of_mels")
        else:
            features = self._encoder.apply(variables, samples)
        if speech.feature_dropout:
            kept = 1.0 - speech.feature_dropout
            features = jnp.where(jax.random.bernoulli(keys[1], kept, features.shape), features / kept, 0.0)
        return features

    def _read(self, params, samples):
        features = self._encoder.apply({"params": params["encoder"]}, samples)
        return self._head.apply({"params": params["head"]}, features)

    def _phonemes(self, params, samples):
        return self._read(params, samples.astype(jnp.float32) / 32767.0)[0].argmax(-1)
