"""Who speaks in real videos: which people a model was trained on, and figures by person, language and kind.

A table (.tsv) with columns video (a file's name), person, language, kind (studio, phone, noise, singing) and split.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vasa_jax.errors import InputError
from vasa_jax.evaluation import metrics
from vasa_jax.files import read_table
from vasa_jax.preparation.report import plain_text

COLUMNS = ("video", "person", "language", "kind", "split")
SPLITS = ("train", "test")
IN_TRAINING, UNLISTED = "its person was in training", "not in the list of speakers"


class Speaker(NamedTuple):
    """Names a video's person, language and kind, and whether a training has had this person."""

    person: str
    language: str
    kind: str
    split: str


def read_speakers(path: str | Path) -> dict[str, Speaker]:
    """Returns the speakers of a table by the names of their videos.

    InputError for a file that is no such table, for another split, and for a person of both.
    """
    remedy = f"give a .tsv with columns {', '.join(COLUMNS)}"
    rows = read_table(path, COLUMNS, remedy)
    speakers: dict[str, Speaker] = {}
    split_of: dict[str, str] = {}
    for number, row in enumerate(rows):
        if not all(row[name] for name in COLUMNS):
            raise InputError(f"{path}: line {number + 2} leaves a column empty; {remedy}")
        speaker = Speaker(*(row[name] for name in COLUMNS[1:]))
        if speaker.split not in SPLITS:
            raise InputError(f"{path}: split {speaker.split!r} of {row['video']}; write {' or '.join(SPLITS)}")
        if split_of.setdefault(speaker.person, speaker.split) != speaker.split:
            raise InputError(f"{path}: {speaker.person} is of both splits; give a person one")
        speakers[row["video"]] = speaker
    return speakers


def why_left_out(video: str, speakers: Mapping[str, Speaker]) -> str:
    """Returns why a video is not measured; empty for one of a person of the split test."""
    speaker = speakers.get(Path(video).name)
    if speaker is None:
        return UNLISTED
    return IN_TRAINING if speaker.split == "train" else ""


def by_people(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str], speakers: Mapping[str, Speaker]
) -> dict[str, Any]:
    """Returns for all clips, each language and each kind {column: interval of r over people}, and `in_step`.

    rows: of `real_audio.compared`, of listed videos. in_step: the share of clips whose best offset is within a frame.
    Several clips of one person count once.
    """
    groups: dict[str, list[Mapping[str, Any]]] = {"all": list(rows)}
    for row in rows:
        speaker = speakers[Path(row["video"]).name]
        for name in (f"language {speaker.language}", f"kind {speaker.kind}"):
            groups.setdefault(name, []).append(row)
    found = {}
    for name, members in groups.items():
        people: dict[str, list[Mapping[str, Any]]] = {}
        for row in members:
            people.setdefault(speakers[Path(row["video"]).name].person, []).append(row)
        found[name] = {
            "clips": len(members),
            "in_step": sum(row["own"]["offset_size"] <= 1 for row in members) / len(members),
        } | {
            column: metrics.interval(sum(row[column]["r"] for row in own) / len(own) for own in people.values())
            for column in columns
        }
    return found


def people_rows(found: Mapping[str, Any], columns: Sequence[str]) -> list[list[str]]:
    """Returns the cells of a table: group, clips, people, each column's mean and interval, share in step."""
    rows = []
    for name, group in found.items():
        count = max((group[column] or {"count": 0})["count"] for column in columns)
        cells = [_cell(group[column]) for column in columns]
        rows.append([plain_text(name), str(group["clips"]), str(count), *cells, f"{group['in_step']:.0%}"])
    return rows


def _cell(share: dict[str, float] | None) -> str:
    if share is None:
        return ""
    ends = f" [{share['low']:.3f}, {share['high']:.3f}]" if "low" in share else ""
    return f"{share['mean']:.3f}{ends}"
