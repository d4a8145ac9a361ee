"""Job `evaluate_photos`: photographs of people, moved; is it the same person, as sharp, and does it move as asked?

    python -m vasa_jax.main --config configs/evaluate_photos.py --config.photos_evaluation.stills=DIR \
        --config.photos.models=face_models

Every photograph performs a fixed motion and generated speech. Columns: the codec in `config.checkpoint`; the one in
`photos_evaluation.against` (empty: the shipped default); the portrait, unmoved; and where a photo head can be fitted
to the photograph, that head in the fixed motion: the exact truth. Real clips are driven by their own frames.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from absl import logging

from vasa_jax.config import PhotosEvaluationConfig, VASAConfig
from vasa_jax.conventions import CORPUS, FPS, SAMPLES_PER_FRAME, head_angles
from vasa_jax.corpus.photos.build import Builder
from vasa_jax.corpus.photos.draw import PhotoRenderer
from vasa_jax.corpus.photos.topology import face_mesh
from vasa_jax.data.audio_files import read_audio
from vasa_jax.errors import InputError
from vasa_jax.evaluation import photo_figures as F
from vasa_jax.evaluation import photo_motion, sheets
from vasa_jax.evaluation.photo_people import Framings, Person, clips, known_faces, people, read_points
from vasa_jax.evaluation.photo_report import photos_markdown
from vasa_jax.evaluation.recognition import MISSING, Recogniser, nearest
from vasa_jax.evaluation.report import save_report
from vasa_jax.generation.control_track import controls_of
from vasa_jax.generation.driving import Driving
from vasa_jax.generation.framing import Landmarks, portrait_framing
from vasa_jax.generation.motion_edit import about_portrait
from vasa_jax.generation.pose_refinement import MotionReader
from vasa_jax.preparation.face_backends.base import FaceAnalyzer
from vasa_jax.preparation.face_backends.factory import open_analyzer
from vasa_jax.settings import part_of
from vasa_jax.weights.parts import makes_motion

CODECS = ("model", "against")
SILENT = ["This codec's folder has no motion from speech"]
Figures = dict[str, float]
Speech = Callable[[Any], np.ndarray]  # of an avatar: its motion (T, 9 + Z)


def evaluate_photos(config: VASAConfig, workdir: str | Path) -> dict[str, Any]:
    """Reports on the codec in `config.checkpoint`; writes report.md, report.json and sheet.png."""
    from vasa_jax.generation.animator import PortraitAnimator

    settings = config.photos_evaluation
    analyzer = open_analyzer(config.photos.analyzer, config.photos.models)
    mesh = face_mesh(config.photos.models)
    model, against = (
        PortraitAnimator.from_checkpoint(folder, config.decode_batch, mark=False, size=config.size)
        for folder in (config.checkpoint, settings.against)
    )
    size = model.image_size
    if against.image_size != size:
        raise InputError(
            f"config.photos_evaluation.against: that codec has {against.image_size} pixels per side, "
            f"config.checkpoint's {size}; give one of the same size"
        )
    how, landmarks = part_of(Driving, config), Landmarks(config.face_models)
    framings = {
        framing: portrait_framing(framing, landmarks, how)
        for framing in dict.fromkeys((model.framing, against.framing))
    }
    if settings.motion:
        asked = photo_motion.from_file(settings.motion, model)
    else:
        asked = photo_motion.built_in(settings.frames, size, config.seed, config.corpus.supersample)
    found, left_out = people(settings, analyzer, Builder(mesh), size, framings)
    codecs = {"model": model, "against": against}
    spoken = speech_of(config, {"model": config.checkpoint, "against": settings.against}, codecs)
    stage = PhotoStage(settings, codecs, analyzer, Recogniser.find())
    stage.framings = framings
    stage.draw = photo_motion.drawer(PhotoRenderer(mesh, size, config.corpus.supersample))
    if settings.training and stage.who:
        stage.known = known_faces(stage.who, settings.training, size)
    return stage.run(found, left_out, asked, spoken, workdir, config.checkpoint)


def speech_of(config: VASAConfig, folders: dict[str, str], codecs: dict[str, Any]) -> dict[str, Speech]:
    """Returns what makes motion of the report's speech for CODECS, which are in these folders.

    A folder's own parts make it, those of the model for both where their motion has as many numbers. For a volume codec
    alone the shipped ones do, whose latents it may share; a keypoint codec alone is left out.
    """
    from vasa_jax.generation.generator import VideoGenerator
    from vasa_jax.generation.job import DEMO

    samples = read_audio(config.audio or DEMO["audio"], config.limits).samples
    samples = samples[: round(config.photos_evaluation.seconds * FPS) * SAMPLES_PER_FRAME]
    controls, how = controls_of(config), part_of(Driving, config)

    @functools.cache
    def speech(folder: str) -> Speech:
        generator = VideoGenerator.from_pretrained(folder, config.decode_batch, mark=False)
        if not generator.makes_hops:  # open weights look at each portrait
            return lambda avatar: generator.motion(samples, avatar, controls, how)
        motion = generator.motion(samples, None, controls)
        return lambda avatar: about_portrait(motion, avatar.motion)

    chosen = {name: folder if folder and makes_motion(folder) else "" for name, folder in folders.items()}
    if codecs["against"].dynamics == codecs["model"].dynamics:
        chosen["against"] = chosen["model"]
    return {name: speech(folder) for name, folder in chosen.items() if folder or codecs[name].codec == "volume"}


class PhotoStage:
    """Moves portraits by two codecs and measures what comes out."""

    draw: Any = None  # of `photo_motion.drawer`
    framings: Framings = MappingProxyType({CORPUS: None})  # that the codecs have
    known: np.ndarray | None = None  # float64 (N, 128), descriptors of the photographs that trained the codec

    def __init__(
        self, settings: PhotosEvaluationConfig, codecs: dict[str, Any], analyzer: FaceAnalyzer, who: Recogniser | None
    ):
        self._settings, self._codecs, self._analyzer, self.who = settings, codecs, analyzer, who

    def run(
        self,
        found: list[dict[str, Person]],
        left_out: dict[str, str],
        asked: photo_motion.FixedMotion,
        spoken: dict[str, Speech],
        workdir: str | Path,
        checkpoint: str = "",
    ) -> dict[str, Any]:
        """Measures everybody, each photograph as the codecs' framings have it, writes the report, and returns it.

        A codec that cannot be asked for the fixed motion is left out there.
        """
        fixed: dict[str, list[Figures]] = defaultdict(list)
        speech: dict[str, list[Figures]] = defaultdict(list)
        rows, each = [], []
        for number, seen in enumerate(found):
            person = seen[self._codecs["model"].framing]
            shown, figures = self._fixed(seen, asked, number < self._settings.truths)
            said = self._spoken(seen, spoken)
            for columns, into in ((figures, fixed), (said, speech)):
                for column, values in columns.items():
                    into[column].append(values)
            each.append({"name": person.name, "groups": person.groups, "fixed": figures, "speech": said})
            rows.append([person.portrait, *(frames[at] for frames in shown for at in _moments(asked, len(frames)))])
            logging.info("%s: %d of %d", person.name, number + 1, len(found))
        report = {
            "checkpoint": checkpoint or "shipped", "against": self._settings.against or "shipped",
            "photographs": len(found), "with_truth": sum("truth" in row["fixed"] for row in each),
            "left_out": left_out, "notes": self._notes(asked, spoken),
            "asked": _spreads(asked),
            "fixed": {column: F.means(values) for column, values in fixed.items()},
            "speech": {column: F.means(values) for column, values in speech.items()},
            "groups": grouped(each), "clips": self._clips() if self._settings.clips else None, "each": each,
        }  # fmt: skip
        sheets.save(Path(workdir) / "sheet.png", sheets.grid(rows))
        save_report(report, photos_markdown(report), workdir)
        return report

    def _notes(self, asked: photo_motion.FixedMotion, spoken: dict[str, Speech]) -> list[str]:
        """What the report lacks."""
        notes = [*([] if self.who else [MISSING]), *SILENT * ("model" not in spoken)]
        fault = asked.unfit(self._codecs["against"])
        return notes + [f"The codec beside it is left out of the fixed motion: the file {fault}"] * bool(fault)

    def _fixed(self, seen: dict[str, Person], asked, with_truth: bool) -> tuple[list[np.ndarray], dict[str, Figures]]:
        """Frames of the truth, white without one, and of the codecs that can be asked, and their figures by column.

        The portrait and the truth's own figures are in the square of the model's framing.
        """
        videos, figures = {}, {}
        for name, codec in self._codecs.items():
            if asked.unfit(codec):
                continue
            person = seen[codec.framing]
            avatar = codec.prepare(person.portrait)
            video = videos[name] = self._driven(codec, avatar, asked.of(codec, avatar))
            figures[name] = self._measure(person, video) | self._against_asked(video, asked)
        own = self._codecs["model"].framing
        if self.known is not None:
            figures["portrait"] = self._recognised(seen[own], seen[own].portrait[None])
        truths = {framing: self._truth(person, asked) for framing, person in seen.items()} if with_truth else {}
        blank = np.full_like(videos["model"], 255)
        if not truths or None in truths.values():
            return [blank, *videos.values()], figures
        still = np.broadcast_to(seen[own].portrait, blank.shape)
        for name, video in (*videos.items(), ("portrait", still)):
            truth, points = truths[self._framing_of(name)]
            figures.setdefault(name, {}).update(self._against_truth(video, truth, points, F.curves(points)))
        figures["truth"] = self._measure(seen[own], truths[own][0])
        return [truths[own][0], *videos.values()], figures

    def _truth(self, person: Person, asked) -> tuple[np.ndarray, np.ndarray] | None:
        """Frames of the photo head in the asked motion, and their points; None without such a head or such points."""
        if person.head is None or asked.curves is None:
            return None
        truth = self.draw(person.head, asked.curves, self._poses(person, asked))
        points = read_points(self._analyzer, truth)
        return (truth, np.stack(points)) if all(p is not None for p in points) else None

    def _poses(self, person: Person, asked) -> np.ndarray:
        """The asked poses about the photo head's own."""
        return about_portrait(asked.pose, person.head["pose"]).astype(np.float32)

    def _spoken(self, seen: dict[str, Person], spoken: dict[str, Speech]) -> dict[str, Figures]:
        figures = {}
        for name, speech in spoken.items():
            codec = self._codecs[name]
            person = seen[codec.framing]
            avatar = codec.prepare(person.portrait)
            figures[name] = self._measure(person, self._driven(codec, avatar, speech(avatar)))
        return figures

    def _measure(self, person: Person, frames: np.ndarray) -> Figures:
        """What is told without a truth."""
        points = read_points(self._analyzer, frames)
        seen = [i for i, p in enumerate(points) if p is not None]
        own = F.sharpness(person.portrait, person.points)
        figures: Figures = {"faces": len(seen) / len(frames), "flicker": F.flicker(frames)}
        if seen:
            curves = F.curves(np.stack([points[i] for i in seen]))
            sharp = [F.sharpness(frames[i], points[i]) for i in seen]
            figures |= {
                "sharpness": float(np.mean(sharp)) / max(own, 1e-6),
                "mouth_spread": float(curves["mouth"].std()),
                "deepest_blink": F.deepest_blink(curves["lids"]),
            }
        mattes = np.stack([self._analyzer.matte(frame) for frame in frames[::4]])
        figures["background"] = F.background_change(frames[::4], person.portrait, mattes, person.matte)
        return figures | self._recognised(person, frames)

    def _recognised(self, person: Person, frames: np.ndarray) -> Figures:
        """Who is seen: how far from the portrait, and from the nearest photograph of `photos_evaluation.training`."""
        own = None if self.who is None else self.who(person.portrait)
        seen = None if own is None else self.who.describe(frames)
        if seen is None or not np.isfinite(seen).any():
            return {}
        figures = {"identity": float(np.nanmean(np.linalg.norm(seen - own, axis=-1)))}
        if abs(person.yaw) >= 20.0:
            figures["identity_turned"] = figures["identity"]
        if self.known is not None:
            figures["nearest_training"] = float(np.nanmean(nearest(seen, self.known)))
        return figures

    def _against_asked(self, frames: np.ndarray, asked) -> Figures:
        """How the tracks follow what the rendered driver truly did."""
        points = read_points(self._analyzer, frames)
        seen = np.array([p is not None for p in points])
        if asked.mouth is None or seen.sum() < 3:
            return {}
        curves = F.curves(np.stack([p for p in points if p is not None]))
        angles, wanted = head_angles(curves["pose"]), head_angles(asked.pose[seen])
        off = (angles - angles.mean(0)) - (wanted - wanted.mean(0))
        return {
            "asked_mouth_r": F.followed(curves["mouth"], asked.mouth[seen])["r"],
            "asked_lids_r": F.followed(curves["lids"], asked.lids[seen])["r"],
            "turn_error": float(np.abs(off).mean()),
        }

    def _against_truth(self, frames: np.ndarray, truth: np.ndarray, points: np.ndarray, curves: F.Curves) -> Figures:
        compared = F.means([F.reconstruction(a, b, p) for a, b, p in zip(frames, truth, points)])
        figures = {f"truth_{name}": value["mean"] for name, value in compared.items()}
        read = read_points(self._analyzer, frames)
        seen = np.array([p is not None for p in read])
        if seen.sum() < 3:
            return figures
        own = F.curves(np.stack([p for p in read if p is not None]))
        for name in ("mouth", "lids"):
            figures |= {f"{name}_{k}": v for k, v in F.followed(own[name], curves[name][seen]).items()}
        figures["gaze_r"] = F.followed(own["gaze"][:, 0], curves["gaze"][seen, 0])["r"]
        return figures | {"flicker_over_truth": F.flicker(frames) / max(F.flicker(truth), 1e-6)}

    def _clips(self) -> dict[str, Any]:
        """Real clips: the first frame in the motion of the others, beside the first frame, unmoved.

        Motion is read as `reenact` reads it by default, and in a column of its own by the encoder alone.
        """
        columns: dict[str, list[Figures]] = defaultdict(list)
        names, model = [], self._codecs["model"]
        for name, seen in clips(self._settings, self._analyzer, model.image_size, self.framings):
            own, _ = seen[model.framing]
            videos = {"portrait": np.broadcast_to(own[0], own[1:].shape)}
            for column, codec in self._codecs.items():
                frames, passes = seen[codec.framing][0], Driving().align if codec.codec == "volume" else 0
                videos[column] = self._driven(codec, codec.prepare(frames[0]), MotionReader(codec, passes)(frames)[1:])
            videos["encoder"] = self._driven(model, model.prepare(own[0]), model.encode_motion(own[1:]))
            for column, video in videos.items():
                frames, points = seen[self._framing_of(column)]
                rows = [F.reconstruction(a, b, p) for a, b, p in zip(video, frames[1:], points[1:])]
                columns[column].append({n: v["mean"] for n, v in F.means(rows).items()})
            names.append(name)
            logging.info("%s", name)
        return {"clips": names, "table": {column: F.means(rows) for column, rows in columns.items()}}

    def _framing_of(self, column: str) -> str:
        """Returns the framing of a column's frames: its codec's, the model's where it has none."""
        return self._codecs.get(column, self._codecs["model"]).framing

    @staticmethod
    def _driven(codec, avatar, motion: np.ndarray) -> np.ndarray:
        return np.concatenate(list(codec.render(avatar, motion)))


def grouped(each: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Returns, by column of the table and value, how many there are and the means of the model's figures."""
    parts: dict[str, dict[str, list]] = defaultdict(lambda: defaultdict(list))
    for row in each:
        for name, value in row["groups"].items():
            parts[name][value].append(row["fixed"]["model"])
    return {
        name: {value: {"photographs": len(rows), **F.means(rows)} for value, rows in sorted(values.items())}
        for name, values in parts.items()
        if len(values) > 1
    }


def _moments(asked, count: int) -> list[int]:
    """Frames for the sheet: the widest mouth, a shut eye, the furthest turn."""
    if asked.curves is None:
        return sorted({0, count // 2, count - 1})
    pick = [asked.curves["jaw"].argmax(), asked.curves["blink_l"].argmax(), np.abs(asked.curves["yaw"]).argmax()]
    return [int(i) for i in pick]


def _spreads(asked) -> Figures:
    angles = head_angles(asked.pose)
    spread = {"yaw_degrees": float(angles[:, 0].std()), "frames": len(asked.pose)}
    return spread if asked.mouth is None else spread | {"mouth": float(asked.mouth.std())}
