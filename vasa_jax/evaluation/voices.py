"""Job `evaluate_voices`: do the lips follow real voices, which training on a synthesiser never had?

    python -m vasa_jax.main --config configs/evaluate_voices.py --config.videos=DIR --config.prepare.models=face_models

The sound of each clip drives a held-out head; the opening of its mouth, read by the instrument, is compared with that
of the real speaker, found by landmarks in the clip. Beside it stand videos from the sound of other clips (what is got
without listening) and the loudness of the clip's own sound (what is got without a model).
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from vasa_jax.config import VASAConfig
from vasa_jax.conventions import FPS, SAMPLES_PER_FRAME
from vasa_jax.errors import InputError
from vasa_jax.evaluation import measures, sheets
from vasa_jax.evaluation.held_out import HeldOutHeads
from vasa_jax.evaluation.instrument import Instrument
from vasa_jax.evaluation.real_clips import RealClip, real_clips
from vasa_jax.evaluation.report import save_report
from vasa_jax.evaluation.stage import Generator
from vasa_jax.evaluation.voices_report import voices_markdown
from vasa_jax.generation.controls import Controls

CURVE_WIDTH = 900  # pixels


def evaluate_voices(config: VASAConfig, workdir: str | Path) -> dict[str, Any]:
    """The job: the report on the model in `config.checkpoint`, by the instrument beside it."""
    from vasa_jax.generation.generator import VideoGenerator

    controls, voices = Controls.from_config(config), config.voices
    instrument = Instrument.from_pretrained(config.checkpoint)
    generator = VideoGenerator.from_pretrained(config.checkpoint, config.decode_batch, mark=False)
    work = Path(workdir) / "clips"
    clips, none = real_clips(config.videos, config.prepare, voices.seconds, voices.per_video, work)
    heads = HeldOutHeads(generator.image_size, config.seed, config.corpus.supersample)
    portraits = [heads.portrait(heads.identity(number)) for number in range(voices.heads)]
    return measure_voices(generator, instrument, portraits, clips, none, controls, workdir)


def measure_voices(
    generator: Generator,
    instrument: Instrument,
    portraits: Sequence[np.ndarray],
    clips: Sequence[RealClip],
    none: dict[str, str],
    controls: Controls,
    workdir: str | Path,
) -> dict[str, Any]:
    """Writes report.md, report.json and curves.png to the workdir and returns the report.

    Clips take turns with the portraits, uint8 (n, n, 3). none: videos without a clip, and why. InputError for clips of
    fewer than two videos, as the sound of another one is needed.
    """
    if len({clip.video for clip in clips}) < 2:
        found = f"{len(clips)} clips of {len({clip.video for clip in clips})} videos"
        why = "; ".join(f"{name}: {reason}" for name, reason in list(none.items())[:3])
        raise InputError(f"config.videos: {found} can be used, two videos are needed{f' ({why})' if why else ''}")
    avatars = [generator.prepare(portrait) for portrait in portraits]
    generated = []
    for number, clip in enumerate(clips):
        avatar = avatars[number % len(avatars)]
        seeded = dataclasses.replace(controls, seed=controls.seed + number)
        motion = generator.motion(clip.samples, avatar, controls=seeded)
        frames = np.concatenate(list(generator.render(avatar, motion)))
        generated.append(instrument.measure(frames).mouth)
        logging.info("%s: %d of %d", clip.name, number + 1, len(clips))
    report = compared(clips, generated)
    report |= {
        "none": none,
        "heads": len(avatars),
        "controls": {
            name: getattr(controls, name)
            for name in ("seed", "steps", "solver", "hop", "look_ahead", "audio_guidance")
        },
        "instrument": instrument.training_errors,
    }
    curves = [
        sheets.curves({"real": clip.mouth, "generated": mouth}, f"{clip.name}: mouth opening", CURVE_WIDTH)
        for clip, mouth in zip(clips, generated)
    ]
    sheets.save(Path(workdir) / "curves.png", np.concatenate(curves))
    save_report(report, voices_markdown(report), workdir)
    return report


def compared(clips: Sequence[RealClip], generated: Sequence[np.ndarray]) -> dict[str, Any]:
    """Figures per clip and pooled: of each clip's own sound, of the sound of every clip of another video, and of the
    loudness of its own sound.

    generated: mouth opening (T,) of the video that each clip's sound made.
    """
    rows = []
    for clip, mouth in zip(clips, generated):
        others = [track for other, track in zip(clips, generated) if other.video != clip.video]
        own = _figures(mouth, clip)
        shuffled = [_figures(track, clip) for track in others]
        rows.append({
            "name": clip.name,
            "video": clip.video,
            "seconds": len(clip.mouth) / FPS,
            "own": own,
            "shuffled": {name: float(np.mean([row[name] for row in shuffled])) for name in own},
            "loudness": _figures(level(clip.samples), clip),
            "beaten": float(np.mean([(own["r"] > row["r"]) + 0.5 * (own["r"] == row["r"]) for row in shuffled])),
        })
    by_video = {row["video"]: [other for other in rows if other["video"] == row["video"]] for row in rows}

    def spread(get) -> dict[str, float]:
        """Over videos: parts of one are no independent evidence."""
        return measures.spread(float(np.mean([get(row) for row in parts])) for parts in by_video.values())

    columns = ("own", "shuffled", "loudness")
    pooled = {
        "own": [_common(mouth, clip.mouth) for clip, mouth in zip(clips, generated)],
        "shuffled": [
            _common(mouth, clip.mouth)
            for clip in clips
            for other, mouth in zip(clips, generated)
            if other.video != clip.video
        ],
        "loudness": [_common(level(clip.samples), clip.mouth) for clip in clips],
    }
    return {
        "clips": rows,
        "videos": len(by_video),
        "table": {
            name: {column: spread(lambda row, c=column, n=name: row[c][n]) for column in columns}
            for name in rows[0]["own"]
        },
        "pooled": {
            column: measures.pooled_pearson([(a - a.mean(), b - b.mean()) for a, b in pairs])
            for column, pairs in pooled.items()
        },
        "gain": spread(lambda row: row["own"]["r"] - row["shuffled"]["r"]),
        "beaten": spread(lambda row: row["beaten"]),
    }


def level(samples: np.ndarray) -> np.ndarray:
    """(T,) root mean square of the sound of each frame, float (640 T,)."""
    return np.sqrt(np.square(samples.reshape(-1, SAMPLES_PER_FRAME).astype(np.float64)).mean(1))


def _figures(track: np.ndarray, clip: RealClip) -> dict[str, float]:
    """A track against the real speaker's mouth, over the frames that both have."""
    mouth, real = _common(track, clip.mouth)
    offset, r = measures.best_offset(mouth, real)
    return {
        "r": measures.pearson(mouth, real),
        "offset": float(offset),
        "offset_size": float(abs(offset)),
        "r_at_offset": r,
        "r_lips": measures.pearson(*_common(track, clip.lips)),
    }


def _common(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    frames = min(len(a), len(b))
    return a[:frames], b[:frames]
