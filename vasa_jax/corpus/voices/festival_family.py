"""Flite and Festival, programs of Debian's packages, as synthesisers: English with the times of its phones.

Both print where each phone ends. The times agree with an aligner's to 10 ms, with no offset.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from vasa_jax.config import SpeechCorpusConfig
from vasa_jax.conventions import SAMPLE_RATE
from vasa_jax.corpus.speech.espeak import Phoneme, Speech
from vasa_jax.corpus.speech.phonemes import arpabet_class
from vasa_jax.corpus.voices.onnx_speech import at_speech_rate
from vasa_jax.corpus.voices.synthesiser import Say, Speaker
from vasa_jax.errors import InputError

SECONDS = 60  # within which a program speaks a sentence
SLT = "slt"  # one woman, in both programs: never heard in training
PITCH = {"kal16": 105.0, "awb": 130.0, "rms": 95.0, SLT: 170.0}  # Hz, near each Flite voice's own
FESTIVAL_VOICES = (
    Speaker("kal_diphone", "en", "train"), Speaker("ked_diphone", "en", "train"),
    Speaker("cmu_us_slt_arctic_hts", "en", "heldout"),
)  # fmt: skip


class Flite:
    """Speaks with the voices that are built into flite 2.2, at random speed and pitch."""

    speakers = (
        Speaker("kal16", "en", "train"), Speaker("awb", "en", "train"), Speaker("rms", "en", "train"),
        Speaker(SLT, "en", "heldout"),
    )  # fmt: skip

    def __init__(self, settings: SpeechCorpusConfig):
        del settings
        self._program = _program("flite", "flite")

    def cast(self, speaker: Speaker, rng: np.random.Generator) -> Say:
        """Returns what says texts as this speaker."""
        stretch = rng.uniform(0.8, 1.25)
        pitch = PITCH[speaker.name] * np.exp(rng.uniform(np.log(0.85), np.log(1.2)))

        def say(text: str) -> Speech:
            with tempfile.TemporaryDirectory() as folder:
                sound = Path(folder) / "said.wav"
                options = ["--setf", f"duration_stretch={stretch:.3f}", "--setf", f"int_f0_target_mean={pitch:.1f}"]
                printed = _run(
                    [self._program, "-voice", speaker.name, *options, "-psdur", "-t", text + " ", "-o", str(sound)]
                )
                pairs = (item.rpartition(":")[::2] for item in printed.split())
                return _speech(sound, ((name, float(end)) for name, end in pairs), text)

        return say


class Festival:
    """Speaks with the English voices of Festival's packages that are installed."""

    def __init__(self, settings: SpeechCorpusConfig):
        del settings
        self._program = _program("festival", "festival festvox-kallpc16k festvox-kdlpc16k festvox-us-slt-hts")
        with tempfile.TemporaryDirectory() as folder:
            listed = self._evaluate('(mapcar (lambda (v) (format t "%s\\n" v)) (voice.list))', folder).split()
        self.speakers = tuple(speaker for speaker in FESTIVAL_VOICES if speaker.name in listed)
        if not self.speakers:
            raise InputError("festival: has none of its English voices; run `apt-get install festvox-kallpc16k`")

    def cast(self, speaker: Speaker, rng: np.random.Generator) -> Say:
        """Returns what says texts as this speaker."""
        stretch = rng.uniform(0.85, 1.2)

        def say(text: str) -> Speech:
            with tempfile.TemporaryDirectory() as folder:
                sound = Path(folder) / "said.wav"
                quoted = text.replace("\\", "").replace('"', "")
                printed = self._evaluate(
                    f"(voice_{speaker.name})\n(Parameter.set 'Duration_Stretch {stretch:.3f})\n"
                    f'(set! u (Utterance Text "{quoted}"))\n(utt.synth u)\n(utt.save.wave u "{sound}" \'riff)\n'
                    '(mapcar (lambda (s) (format t "%s %f\\n" (item.name s) (item.feat s \'end)))'
                    " (utt.relation.items u 'Segment))\n",
                    folder,
                )
                pairs = (line.split() for line in printed.splitlines() if len(line.split()) == 2)
                return _speech(sound, ((name, float(end)) for name, end in pairs), text)

        return say

    def _evaluate(self, script: str, folder: str) -> str:
        """Returns what a program in Festival's Scheme prints."""
        path = Path(folder) / "say.scm"
        path.write_text(script, encoding="latin-1", errors="replace")
        return _run([self._program, "-b", str(path)])


def _program(name: str, packages: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise InputError(
            f"{name}: no such program on the path; run `apt-get install {packages}`, or set "
            f"config.speech_corpus.{name}=0"
        )
    return found


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=SECONDS, stdin=subprocess.DEVNULL, env=os.environ | {"LC_ALL": "C"}
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputError(f"{command[0]}: does not answer ({type(error).__name__}); install it anew") from error
    if done.returncode:
        said = " ".join(done.stderr.decode("utf-8", "replace").split())[-200:]
        raise InputError(f"{command[0]}: fails with code {done.returncode} ({said}); install it anew")
    return done.stdout.decode("utf-8", "replace")


def _speech(sound: Path, ends: Iterable[tuple[str, float]], text: str) -> Speech:
    """Reads a WAV and pairs of phone and its end in seconds."""
    from scipy.io import wavfile

    try:
        rate, samples = wavfile.read(sound)
        phones = list(ends)
    except (OSError, ValueError) as error:
        raise InputError(f"text {text[:60]!r}: gave no sound ({error}); leave it out") from error
    if not phones or not len(samples):
        raise InputError(f"text {text[:60]!r}: holds nothing to say; give English words")
    spoken = at_speech_rate(samples.astype(np.float32) / 32768.0, rate)
    total, start, parts = len(spoken) / SAMPLE_RATE, 0.0, []
    for name, end in phones:
        end = min(end, total)
        if end > start:
            parts.append(Phoneme(start, end, arpabet_class(name), False, end))
            start = end
    return Speech(spoken, tuple(parts))
