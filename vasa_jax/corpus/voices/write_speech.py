"""Job `speech_corpus`: synthesisers and people whose words are known become shards of speech with phoneme labels.

    python -m vasa_jax.main --config configs/speech_corpus.py --config.output=runs/speech

Each source has a setting of its own, its minutes. A run that was stopped goes on where it was: shards that are there
stay. Two folders of the same settings hold the same passages.
"""

import collections
import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import logging

from vasa_jax.config import SpeechCorpusConfig, VASAConfig
from vasa_jax.conventions import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME
from vasa_jax.corpus.clips import fill_pauses, frame_labels, set_level, speak_in_turn
from vasa_jax.corpus.speech.espeak import Speech, trim
from vasa_jax.corpus.speech.sentences import sample_sentence
from vasa_jax.corpus.voices.alignment import EnglishAligner
from vasa_jax.corpus.voices.speech_shards import UNKNOWN_STRESS, Passage, read_shard, shard_key, write_shard
from vasa_jax.corpus.voices.spoken import SpokenClip, aligned, find_grid_clips, find_recordings
from vasa_jax.corpus.voices.synthesiser import SYNTHESISERS, Speaker, Synthesiser, open_synthesiser
from vasa_jax.errors import InputError
from vasa_jax.files import as_json, difference, run_in_processes, write_json, write_text

SECONDS = 8.0  # of a passage, at most
TYPICAL = 6.5  # seconds of a passage
LETTERS = 14  # of a text, per second of speech
PER_SHARD = 32  # passages
_KILLED = ": its process was killed"
MOST_REFUSALS = 12  # sentences of one passage that a synthesiser may refuse
LICENCES = {
    "espeak": "eSpeak NG, GPL-3.0",
    "kokoro": "Kokoro-82M, Apache-2.0",
    "piper": "Piper voices of the user's: see each voice's MODEL_CARD",
    "pico": "SVOX Pico, Apache-2.0; times by pocketsphinx, BSD",
    "flite": "Flite, BSD-like (CMU)",
    "festival": "Festival and its English voices, free (CSTR, CMU)",
    "grid": "GRID audiovisual sentence corpus (Cooke, Barker, Cunningham, Shao 2006), CC BY 4.0; times by pocketsphinx",
    "people": "recordings of the user's: see the column licence of their table; times by pocketsphinx, BSD",
}


class Order(NamedTuple):
    """Asks for one passage: number `number` of a speaker."""

    source: str
    speaker: Speaker
    number: int
    seed: int


def speech_corpus(config: VASAConfig, workdir: str | Path) -> Path:
    """Writes shards, report.md and manifest.json to `config.output`, by default the workdir; returns the folder."""
    settings, folder = config.speech_corpus, Path(config.output or workdir)
    sources = [name for name in SYNTHESISERS if getattr(settings, name) > 0]
    if not sources and not settings.grid and not settings.people:
        raise InputError("config.speech_corpus: no source has minutes; set espeak, kokoro, another one, grid or people")
    opened = {name: open_synthesiser(name, settings) for name in sources}  # what is missing is said before work starts
    clips, unspelled = find_grid_clips(settings.grid) if settings.grid else ([], [])
    recordings = find_recordings(settings.people) if settings.people else []
    for name, known, place in (
        ("grid_train", clips, settings.grid), ("people_held_out", recordings, settings.people)
    ):  # fmt: skip
        if unknown := sorted(set(getattr(settings, name)) - {clip.person for clip in known}):
            fault = f"config.speech_corpus.{name}: {unknown[0]!r} is nobody in {place or 'no table'}"
            raise InputError(f"{fault}; leave it out")
    if clips or recordings:
        EnglishAligner()
    refused = {}
    for name in sources:
        orders = orders_of(name, opened[name], settings, config.seed)
        refused[name] = _written(folder, name, orders, settings, _say_passage, (name, settings))
    if clips:
        unspelled = [f"{name}: its name spells no sentence" for name in unspelled]
        refused["grid"] = unspelled + _written(folder, "grid", clips, settings, _spoken_passage, ("grid", settings))
    if recordings:
        refused["people"] = _written(folder, "people", recordings, settings, _spoken_passage, ("people", settings))
    _report(folder, settings, refused)
    return folder


def orders_of(name: str, synthesiser: Synthesiser, settings: SpeechCorpusConfig, seed: int) -> list[Order]:
    """Returns what is asked of a synthesiser: its minutes over training speakers, `held_out` of each other speaker."""
    training = [speaker for speaker in synthesiser.speakers if speaker.split == "train"]
    count = max(round(60.0 * getattr(settings, name) / TYPICAL), 1) if training else 0
    orders = [Order(name, training[number % len(training)], number, seed) for number in range(count)]
    each = round(60.0 * settings.held_out / TYPICAL)
    for speaker in synthesiser.speakers:
        if speaker.split == "heldout":
            orders += [Order(name, speaker, number, seed) for number in range(each)]
    return orders


def _written(folder: Path, name: str, jobs: list, settings: SpeechCorpusConfig, make, opening: tuple) -> list[str]:
    """Writes the shards of a source that are not there yet; returns what was refused, a line each."""
    paths = {}
    for first in range(0, len(jobs), PER_SHARD):
        path, part = folder / f"speech-{name}-{first // PER_SHARD:04d}.npz", range(first, first + PER_SHARD)
        key = as_json(_key(name, settings, jobs[first : first + PER_SHARD]))
        if not path.exists():
            paths[path] = (key, [index for index in part if index < len(jobs)])
        elif (made := shard_key(path)) != key:
            fault = difference(made, key) if isinstance(made, dict) else "another kind of file"
            said = f"{path}: was made with other settings ({fault[:200]})"
            raise InputError(f"{said}; delete it, or choose another folder")
    wanted = [(index, path) for path, (_, indices) in paths.items() for index in indices]
    place = {number: path for number, (_, path) in enumerate(wanted)}
    done: dict[Path, dict[int, Any]] = collections.defaultdict(dict)
    refused = []
    workers = min(settings.workers or os.cpu_count() or 1, max(len(wanted), 1))
    results = run_in_processes(
        make, [jobs[index] for index, _ in wanted], 0 if workers == 1 else workers, _open, opening, lost=_lost
    )
    killed: collections.Counter[Path] = collections.Counter()
    for number, (passage, said) in results:
        path = place[number]
        done[path][number] = passage
        refused += said
        killed[path] += any(line.endswith(_KILLED) for line in said)
        if killed[path] == len(paths[path][1]):  # no fault of the passages: an empty shard would never be made again
            remedy = "free memory, or set config.speech_corpus.workers lower, and run the command again"
            raise InputError(f"{path}: the processes of all its passages were killed; {remedy}")
        key, indices = paths[path]
        if len(done[path]) == len(indices):
            kept = [passage for _, passage in sorted(done.pop(path).items()) if passage is not None]
            write_shard(path, kept, settings.bit_rate, key)
            logging.info("%s: %d passages", path.name, len(kept))
    return refused


def _key(name: str, settings: SpeechCorpusConfig, jobs: list) -> dict[str, Any]:
    """Returns everything that decides a shard of a source; what other sources are set to does not."""
    own = {key: value for key, value in dataclasses.asdict(settings).items() if key.startswith(f"{name}_")}
    asked = [[str(value) for value in job] for job in jobs]
    return {"bit_rate": settings.bit_rate, "seconds": SECONDS, "jobs": asked, **own}


_OPENED: dict[str, Any] = {}  # of this process: its source, and the synthesiser or aligner that its jobs use


def _open(name: str, settings: SpeechCorpusConfig) -> None:
    logging.set_verbosity(logging.WARNING)
    _OPENED.update(settings=settings, source=name)
    _OPENED[name] = EnglishAligner() if name in ("grid", "people") else open_synthesiser(name, settings)


def _lost(job: Any) -> tuple[None, list[str]]:
    return None, [f"{job}{_KILLED}"]


def _say_passage(order: Order) -> tuple[Passage | None, list[str]]:
    return say_passage(_OPENED[order.source], order)


def _spoken_passage(clip: SpokenClip) -> tuple[Passage | None, list[str]]:
    source, settings = _OPENED["source"], _OPENED["settings"]
    try:
        speech = aligned(clip, _OPENED[source], SECONDS)
    except InputError as error:  # a damaged clip, one without sound, or a word that the dictionary lacks
        said = str(error)
        return None, [said if clip.file.name in said else f"{clip.file.name}: {said}"]
    if speech is None:
        return None, [f"{clip.file.name}: its words do not fit its sound"]
    trains = clip.person in settings.grid_train if source == "grid" else clip.person not in settings.people_held_out
    speaker = Speaker(clip.person, "en", "train" if trains else "heldout")
    return labelled(speech, source, speaker, clip.person, " ".join(clip.words)), []


def say_passage(synthesiser: Synthesiser, order: Order) -> tuple[Passage | None, list[str]]:
    """Returns a passage of one or more sentences, and what the synthesiser refused to say; the same each time."""
    speaker = order.speaker
    rng = np.random.default_rng([order.seed, order.number, *order.source.encode(), *speaker.name.encode()])
    say, refused = synthesiser.cast(speaker, rng), []
    share = 0.9  # of the room that a sentence should fill, by an estimate from its letters

    def next_sentence(room: int) -> tuple[str, Speech | None]:
        nonlocal share
        while share > 0.2 and len(refused) < MOST_REFUSALS:
            letters = max(int(share * room / SAMPLE_RATE * LETTERS), 7)
            text = sample_sentence(rng, speaker.language, speaker.split, letters)
            if len(text) > letters + 4:
                share -= 0.3
                continue
            try:
                spoken = trim(say(text))
            except InputError as error:
                refused.append(str(error))
                continue
            if len(spoken.samples) <= room:
                return text, spoken
            share -= 0.2
        return "", None

    samples = np.zeros(int(SECONDS * SAMPLE_RATE), np.float32)
    start, trail = (rng.uniform((0.1, 0.1), (0.5, 0.4)) * SAMPLE_RATE).astype(int)
    phonemes, texts, end = speak_in_turn(
        next_sentence, samples, start, len(samples) - trail, lambda: 0.1 + rng.gamma(2.0, 0.12), 0.8 * SAMPLE_RATE
    )
    if not texts:
        return None, refused
    frames = min(-(-(end + trail) // SAMPLES_PER_FRAME), len(samples) // SAMPLES_PER_FRAME)
    samples = set_level(samples[: frames * SAMPLES_PER_FRAME], rng.normal(-21.0, 2.5))
    person = f"{speaker.name}-{order.seed}-{order.number}" if speaker.name == "mixture" else speaker.name
    speech = Speech(samples, fill_pauses(phonemes, frames / FPS))
    return labelled(speech, order.source, speaker, person, " ".join(texts)), refused


def labelled(speech: Speech, source: str, speaker: Speaker, person: str, text: str) -> Passage:
    """Returns a passage of whole video frames: its sound is continued by silence."""
    frames = -(-len(speech.samples) // SAMPLES_PER_FRAME)
    samples = np.pad(speech.samples, (0, frames * SAMPLES_PER_FRAME - len(speech.samples)))
    phonemes, stress = frame_labels(speech.phonemes, 2 * frames)
    known = any(phoneme.stressed for phoneme in speech.phonemes)
    marks = stress.astype(np.uint8) if known else np.full(2 * frames, UNKNOWN_STRESS, np.uint8)
    sound, classes = samples.astype(np.float32), phonemes.astype(np.uint8)
    return Passage(sound, classes, marks, source, person, speaker.language, speaker.split, text)


def _tallies(folder: Path) -> Iterator[tuple[tuple[str, str], Passage]]:
    for path in sorted(folder.glob("speech-*.npz")):
        for passage in read_shard(path):
            yield (passage.source, passage.split), passage


def _report(folder: Path, settings: SpeechCorpusConfig, refused: dict[str, list[str]]) -> None:
    """Writes what the folder holds: report.md and manifest.json."""
    groups: dict[tuple[str, str], dict[str, Any]] = {}
    for key, passage in _tallies(folder):
        group = groups.setdefault(key, {"passages": 0, "minutes": 0.0, "people": set(), "languages": set()})
        group["passages"] += 1
        group["minutes"] += len(passage.samples) / SAMPLE_RATE / 60
        group["people"].add(passage.person)
        group["languages"].add(passage.language)
    size = sum(path.stat().st_size for path in folder.glob("speech-*.npz")) / 2**20
    lines = ["# Speech corpus", "", f"{size:.1f} MiB of Opus at {settings.bit_rate:g} kbit/s.", ""]
    lines += ["| source | split | passages | minutes | people | languages |", "|---|---|---|---|---|---|"]
    for (source, split), group in sorted(groups.items()):
        lines.append(
            f"| {source} | {split} | {group['passages']} | {group['minutes']:.1f} | {len(group['people'])} | "
            f"{', '.join(sorted(group['languages']))} |"
        )
    lines += ["", "## Licences", "", *(f"* {LICENCES[name]}" for name in sorted({key[0] for key in groups}))]
    for name, said in refused.items():
        if said:
            lines += ["", f"## {name}: {len(said)} refused", "", *(f"* {line}" for line in said[:20])]
    write_text(folder / "report.md", "\n".join(lines) + "\n")
    content = [
        {"source": source, "split": split, **{n: sorted(v) if isinstance(v, set) else v for n, v in group.items()}}
        for (source, split), group in sorted(groups.items())
    ]
    write_json(folder / "manifest.json", {"settings": dataclasses.asdict(settings), "groups": content})
