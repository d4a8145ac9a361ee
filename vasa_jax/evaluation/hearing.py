"""Job `evaluate_audio`: how well an audio encoder's features tell phonemes on voices that no training heard.

    python -m vasa_jax.main --config configs/evaluate_audio.py --config.speech.shards=DIR --config.checkpoint=DIR

An exported encoder has no read-out. A linear one is fitted to its frozen features on the shards' training passages,
unaltered, the same way for every encoder. Then it names the held-out passages of each source.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import logging

from vasa_jax.config import VASAConfig
from vasa_jax.corpus.clip_set import FRAMES, SAMPLES, fitted
from vasa_jax.corpus.speech.phonemes import PHONEME_CLASSES
from vasa_jax.corpus.voices.speech_set import shares_of
from vasa_jax.corpus.voices.speech_shards import Passage, read_passages
from vasa_jax.evaluation.phoneme_naming import FIGURES, counts, shares_with_error
from vasa_jax.evaluation.report import markdown_table, save_report
from vasa_jax.models.audio_encoders import audio_encoder
from vasa_jax.preparation.report import plain_text
from vasa_jax.weights.parts import load_part

UPDATES, BATCH, PEAK_RATE = 1500, 8192, 2e-2
BATCH_PASSAGES = 8  # heard at once
COLUMNS = {"spoken": "spoken frames", "viseme": "visemes", "closures": "m, b, p seen as closed"}


def evaluate_audio(config: VASAConfig, workdir: str | Path) -> dict[str, Any]:
    """Writes report.md and report.json to the workdir; returns the report.

    Raises InputError where `config.speech.shards` is no folder of shards with both splits.
    """
    speech = config.speech
    training, unheard = (read_passages(speech.shards, split) for split in ("train", "heldout"))
    params, metadata = load_part(config.checkpoint, "audio")
    encoder = audio_encoder(metadata["fields"])
    hear = jax.jit(lambda samples: encoder.apply({"params": params}, samples))
    logging.info("hearing %d and %d passages", len(training), len(unheard))
    known = features_of(hear, training)
    rows = np.repeat(shares_of(training, speech.espeak_share, speech.person_seconds), [len(x) for x in known])
    rows = rows / np.repeat([len(x) for x in known], [len(x) for x in known])
    truth = np.concatenate([passage.phonemes[: 2 * FRAMES] for passage in training])
    weights, bias = fit_read_out(np.concatenate(known), truth.astype(np.int32), rows, config.seed)
    groups: dict[str, list] = {}
    for passage, features in zip(unheard, features_of(hear, unheard)):
        guess = (features @ weights + bias).argmax(-1)
        truth = passage.phonemes[: len(guess)].astype(np.int32)
        for name in (passage.source, f"{passage.source}: {passage.person}"):
            groups.setdefault(name, []).append(counts(guess, truth))
    table = {name: shares_with_error(parts) for name, parts in sorted(groups.items())}
    report = {
        "checkpoint": config.checkpoint or "the shipped model",
        "shards": speech.shards,
        "parameters": int(sum(leaf.size for leaf in jax.tree.leaves(params))),
        "voices": {name: {"passages": len(groups[name]), **row} for name, row in table.items()},
    }
    save_report(report, hearing_markdown(report), workdir)
    return report


def features_of(hear, passages: Sequence[Passage]) -> list[np.ndarray]:
    """Returns the 50 Hz features of each passage, f32 (2 T, width), without those of the padding."""
    found = []
    for first in range(0, len(passages), BATCH_PASSAGES):
        part = passages[first : first + BATCH_PASSAGES]
        sound = np.stack([fitted(passage.samples, SAMPLES) for passage in part])
        sound = np.pad(sound, ((0, BATCH_PASSAGES - len(part)), (0, 0)))  # one compilation
        features = np.asarray(hear(sound))
        found += [heard[: min(len(passage.phonemes), 2 * FRAMES)] for heard, passage in zip(features, part)]
    return found


def fit_read_out(features: np.ndarray, classes: np.ndarray, shares: np.ndarray, seed: int):
    """Fits a softmax over PHONEME_CLASSES to features f32 (N, width), examples drawn by `shares` (N,).

    Returns weights (width, classes) and bias (classes,).
    """
    mean, std = features.mean(0), features.std(0) + 1e-6
    sums = np.cumsum(shares) / shares.sum()
    rng = np.random.default_rng(seed)
    optimizer = optax.adam(optax.cosine_decay_schedule(PEAK_RATE, UPDATES))
    params = {
        "weights": jnp.zeros((features.shape[1], len(PHONEME_CLASSES))), "bias": jnp.zeros(len(PHONEME_CLASSES)),
    }  # fmt: skip

    @jax.jit
    def update(params, state, x, y):
        def loss(params):
            logits = x @ params["weights"] + params["bias"]
            return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

        updates, state = optimizer.update(jax.grad(loss)(params), state)
        return optax.apply_updates(params, updates), state

    state = optimizer.init(params)
    for _ in range(UPDATES):
        which = np.minimum(np.searchsorted(sums, rng.random(BATCH)), len(features) - 1)
        params, state = update(params, state, (features[which] - mean) / std, classes[which])
    weights = np.asarray(params["weights"]) / std[:, None]
    return weights, np.asarray(params["bias"]) - mean @ weights


def hearing_markdown(report: dict[str, Any]) -> str:
    """Writes the table of held-out voices."""
    rows = []
    for name, row in report["voices"].items():
        rows.append([plain_text(name), str(row["passages"]), *(_cell(row.get(figure)) for figure in FIGURES)])
    checkpoint, shards = plain_text(report["checkpoint"]), plain_text(report["shards"])
    lines = [
        "# Phonemes on voices that no training heard",
        "",
        f"{checkpoint}: {report['parameters'] / 1e6:.2f} M parameters. A linear read-out of its frozen features, "
        f"fitted on the training passages of {shards}. Shares of 20 ms frames, silence left out; +- standard error "
        "over passages.",
        "",
        *markdown_table(("voice", "passages", *COLUMNS.values()), rows),
    ]
    return "\n".join([*lines, ""])


def _cell(share: dict[str, float] | None) -> str:
    if share is None:
        return ""
    return f"{share['mean']:.3f}" + (f" +- {share['error']:.3f}" if "error" in share else "")
