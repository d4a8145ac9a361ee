"""Jobs `vote_page` and `count_votes`: people compare videos side by side, blind; their votes become win rates.

    python -m vasa_jax.main --config configs/vote_page.py --config.votes.folders="('ours','theirs')"
    python -m vasa_jax.main --config configs/count_votes.py --config.votes.key=FILE --config.votes.cast=FOLDER

The page is a folder that any browser opens from a disk. It names no system, and loads nothing from a network. What
belongs to whom is in key.json, beside the page's folder: hand out the folder alone.
"""

import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any

from vasa_jax.config import VASAConfig
from vasa_jax.data.video_files import read_video
from vasa_jax.errors import InputError
from vasa_jax.evaluation import metrics
from vasa_jax.evaluation.report import markdown_table, save_report
from vasa_jax.evaluation.video_list import File, files_of, stem_of
from vasa_jax.files import read_json, replacing, sha256, write_json, write_text
from vasa_jax.limits import InputLimits
from vasa_jax.preparation.report import plain_text
from vasa_jax.schema import Each, Flag, Named, Real, Text, Whole, check

PLAYED = (".mp4", ".m4v", ".webm", ".mov")  # what browsers play
CHOICES = ("left", "right", "equal")
_ID, _NAME = Text(1, 64, alphabet="0123456789abcdef"), Text(longest=4000)
_KEY = {
    "study": _ID,
    "systems": Each(_NAME, 2, 3),
    "questions": Each(_NAME, 1, 20),
    "videos": Named({"system": _NAME, "clip": _NAME}, 2),
}
_VOTE = {
    "left": _ID, "right": _ID, "repeat": Flag(), "question": Whole(0, 19), "choice": Text(choices=CHOICES),
    "seconds": Real(0.0, 1e9),
}  # fmt: skip
_VOTES = {"study": _ID, "rater": _ID, "votes": Each(_VOTE, 0, 10**6)}


def vote_page(config: VASAConfig, workdir: str | Path) -> dict[str, Any]:
    """Writes page/index.html, page/videos/ and key.json to the workdir, and returns the key.

    A pair is one clip by two of the folders; files belong together by their names. What is broken, or lacks a partner,
    is left out and named. InputError where no pair is left, and for a workdir that holds the page of another study.
    """
    settings, workdir = config.votes, Path(workdir)
    if len(settings.folders) not in (2, 3):
        count = len(settings.folders)
        raise InputError(f"config.votes.folders: {count} of them; give two or three, one of each system")
    systems = _systems(settings.folders)
    found = {system: _playable(folder, config.limits) for system, folder in zip(systems, settings.folders)}
    notes = [note for _, faults in found.values() for note in faults]
    pairs, videos, sources = [], {}, {}
    for first, second in itertools.combinations(systems, 2):
        ours, theirs = found[first][0], found[second][0]
        lone = sorted(ours.keys() ^ theirs.keys())
        notes += [f"{clip}: only in {first if clip in ours else second} of {first}, {second}" for clip in lone]
        for clip in sorted(ours.keys() & theirs.keys()):
            blind = []
            for system, file in ((first, ours[clip]), (second, theirs[clip])):
                name = _blind(config.seed, system, clip, file)
                videos[name], sources[name] = {"system": system, "clip": clip}, file.path
                blind.append(name)
            pairs.append(sorted(blind))  # an order that says nothing
    if not pairs:
        raise InputError(
            f"config.votes.folders: no clip is in two of them ({'; '.join(notes[:3]) or 'nothing found'}); give the "
            "videos of one clip the same name"
        )
    questions = list(settings.questions)
    content = json.dumps([pairs, questions, settings.most, settings.repeats, settings.equal]).encode()
    key = {"study": hashlib.sha256(content).hexdigest()[:12], "systems": systems, "questions": questions,
           "videos": {name: videos[name] for name in sorted(videos)}}  # fmt: skip
    _refuse_another(workdir / "key.json", key["study"])
    names = {name: f"{name}{path.suffix.lower()}" for name, path in sources.items()}
    for name, path in sources.items():
        with replacing(workdir / "page" / "videos" / names[name]) as part:
            shutil.copyfile(path, part)
    study = {
        "study": key["study"], "pairs": sorted(pairs), "files": dict(sorted(names.items())), "questions": questions,
        "choices": list(CHOICES if settings.equal else CHOICES[:2]), "most": settings.most, "repeats": settings.repeats,
    }  # fmt: skip
    write_text(workdir / "page" / "index.html", page_text(study))
    write_json(workdir / "key.json", key)
    for note in notes:
        print(f"left out: {note}")
    print(f"{workdir / 'page' / 'index.html'}: {len(pairs)} pairs; keep {workdir / 'key.json'} to yourself")
    return key


def page_text(study: dict[str, Any]) -> str:
    """Returns the page of a study; whatever its texts hold, none ends the script."""
    template = files("vasa_jax.evaluation").joinpath("pages/votes.html").read_text(encoding="utf-8")
    text = json.dumps(study).replace("<", "\\u003c")  # json writes the line ends of JavaScript escaped
    return template.replace("__STUDY__", text)


def count_votes(config: VASAConfig, workdir: str | Path) -> dict[str, Any]:
    """Sums the files of votes, writes report.md and report.json to the workdir, and returns the report.

    InputError for a key or votes that are none, for votes of another study, and for a rater who is there twice.
    """
    settings = config.votes
    key = read_json(settings.key, "give the key.json of job vote_page")
    check(key, _KEY, settings.key, "make the page again")
    papers = [_paper(path, key) for path in _cast(settings.cast)]
    twice = _first_double(paper["rater"] for paper in papers)
    if twice is not None:
        raise InputError(f"{settings.cast}: rater {twice} is there twice; leave one file of each")
    report = sums(key, papers)
    save_report(report, votes_markdown(report), workdir)
    return report


def sums(key: dict[str, Any], papers: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns, for each question and two systems, how often each was preferred.

    `rate` is the share of the first system's wins in all decided votes. `low` and `high` are Wilson's 95 % interval,
    and `p` is the exact two-sided binomial test of no preference: both take votes for independent. `raters` is the mean
    over raters of their own rates, equal ones counted half, with Student's interval. Pairs that came back count only in
    `steady`: the share of those answers that agree with the first ones.
    """
    from scipy.stats import binomtest

    rows = []
    for number, question in enumerate(key["questions"]):
        for first, second in itertools.combinations(key["systems"], 2):
            by_rater = [_wins(paper["votes"], key["videos"], number, first, second) for paper in papers]
            wins, losses, equal = (sum(part) for part in zip(*by_rater)) if by_rater else (0, 0, 0)
            row = {"question": question, "first": first, "second": second, "wins": wins, "losses": losses,
                   "equal": equal, "raters": metrics.interval(_rate(*part) for part in by_rater)}  # fmt: skip
            if wins + losses:
                test = binomtest(wins, wins + losses)
                ends = test.proportion_ci(metrics.CONFIDENCE, "wilson")
                row |= {"rate": wins / (wins + losses), "low": float(ends.low), "high": float(ends.high)}
                row["p"] = float(test.pvalue)
            rows.append(row)
    agree = [same for paper in papers for same in _again(paper["votes"])]
    return {
        "study": key["study"], "papers": len(papers), "votes": sum(len(paper["votes"]) for paper in papers),
        "rows": rows, "steady": sum(agree) / len(agree) if agree else None, "again": len(agree),
    }  # fmt: skip


def votes_markdown(report: dict[str, Any]) -> str:
    """Writes the win rates as a table."""
    body = []
    for row in report["rows"]:
        rate = f"{row['rate']:.3f} [{row['low']:.3f}, {row['high']:.3f}]" if "rate" in row else ""
        raters = row["raters"] or {}
        mean = f"{raters['mean']:.3f}" if raters else ""
        mean += f" [{raters['low']:.3f}, {raters['high']:.3f}]" if "low" in raters else ""
        tested = f"{row['p']:.3g}" if "p" in row else ""
        body.append([plain_text(row["question"]), plain_text(f"{row['first']} over {row['second']}"), rate, mean,
                     f"{row['wins']}, {row['losses']}, {row['equal']}", tested])  # fmt: skip
    titles = ["question", "systems", "win rate [95 %]", "mean of raters [95 %]", "won, lost, equal", "p"]
    lines = ["# Votes", "", f"{report['votes']} votes of {report['papers']} raters.", "", *markdown_table(titles, body)]
    lines += [
        "",
        "The win rate leaves equal votes out; its interval (Wilson) and p (binomial, two-sided) take votes for "
        "independent. The mean of raters counts equal as half, and its interval (Student) is over raters: read this "
        "one when raters differ.",
    ]
    if report["again"]:
        lines += ["", f"Asked again with sides changed, {report['steady']:.0%} of {report['again']} answers stayed."]
    return "\n".join([*lines, ""])


def _systems(folders: tuple[str, ...]) -> list[str]:
    """Names of the systems: the last part of each folder's path, or more of it where two are alike."""
    paths = [Path(os.path.abspath(folder)) for folder in folders]
    if len(set(paths)) < len(paths):
        raise InputError("config.votes.folders: one folder is there twice; give folders that differ")
    for parts in itertools.count(1):
        names = ["/".join(path.parts[-parts:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    raise AssertionError("paths that differ differ as a whole")


def _playable(folder: str, limits: InputLimits) -> tuple[dict[str, File], list[str]]:
    """Clip -> its file, of those that show a picture, and what is wrong with the others."""
    found, faults = {}, []
    for file in files_of(folder, ""):
        if file.path.suffix.lower() not in PLAYED:
            faults.append(f"{file.name}: browsers do not play {file.path.suffix}; write it as .mp4")
            continue
        try:
            frames = read_video(file.path, limits=limits).frames
            next(frames)
            frames.close()
        except (InputError, StopIteration) as error:
            faults.append(str(error).replace(str(file.path), file.name) or f"{file.name}: has no frame")
            continue
        clip = stem_of(file.name)
        if clip in found:
            faults.append(f"{file.name}: {found[clip].name} has this name too")
        found.setdefault(clip, file)
    return found, faults


def _blind(seed: int, system: str, clip: str, file: File) -> str:
    """A name that says nothing, the same at every call."""
    content = json.dumps([seed, system, clip, sha256(file.path)]).encode()
    return hashlib.sha256(content).hexdigest()[:12]


def _refuse_another(path: Path, study: str) -> None:
    known = read_json(path, "choose another workdir") if os.path.exists(path) else {"study": study}
    if not isinstance(known, dict) or known.get("study") != study:
        raise InputError(f"{path}: is of another study, whose votes need it; choose another --workdir")


def _cast(folder: str) -> list[Path]:
    if not folder or not os.path.isdir(folder):
        raise InputError(f"config.votes.cast: {folder or 'empty'}: no folder; give the one with the raters' files")
    found = sorted(Path(folder).glob("*.json"))
    if not found:
        raise InputError(f"{folder}: holds no .json file; put the raters' files there")
    return found


def _paper(path: Path, key: dict[str, Any]) -> dict[str, Any]:
    """One rater's votes, of this study."""
    paper = check(read_json(path, "leave it out"), _VOTES, str(path), "leave it out")
    if paper["study"] != key["study"]:
        raise InputError(f"{path}: are votes of study {paper['study']}, not {key['study']}; leave it out")
    for vote in paper["votes"]:
        sides = [key["videos"].get(vote[side]) for side in ("left", "right")]
        known = all(sides) and vote["question"] < len(key["questions"])
        if not known or sides[0]["clip"] != sides[1]["clip"] or sides[0]["system"] == sides[1]["system"]:
            raise InputError(f"{path}: holds a vote on no pair of this study; leave it out")
    asked = _first_double((*sorted((v["left"], v["right"])), v["question"], v["repeat"]) for v in paper["votes"])
    if asked is not None:
        raise InputError(f"{path}: holds two votes on one pair; leave it out")
    return paper


def _first_double(values: Iterable[Any]) -> Any:
    known = set()
    return next((value for value in values if value in known or known.add(value)), None)


def _wins(votes: list[dict[str, Any]], videos: dict[str, Any], question: int, first: str, second: str) -> tuple:
    """Votes for the first system, for the second, and for neither."""
    counts = [0, 0, 0]
    for vote in votes:
        systems = [videos[vote[side]]["system"] for side in ("left", "right")]
        if vote["repeat"] or vote["question"] != question or set(systems) != {first, second}:
            continue
        chosen = None if vote["choice"] == "equal" else systems[vote["choice"] == "right"]
        counts[2 if chosen is None else int(chosen == second)] += 1
    return tuple(counts)


def _rate(wins: int, losses: int, equal: int) -> float | None:
    count = wins + losses + equal
    return (wins + equal / 2) / count if count else None


def _again(votes: list[dict[str, Any]]) -> list[bool]:
    """Of each pair that came back: was the same video preferred?"""

    def chosen(vote):
        return vote["choice"] if vote["choice"] == "equal" else vote[vote["choice"]]

    def pair(vote):
        return frozenset((vote["left"], vote["right"])), vote["question"]

    once = {pair(vote): chosen(vote) for vote in votes if not vote["repeat"]}
    return [once[pair(vote)] == chosen(vote) for vote in votes if vote["repeat"] and pair(vote) in once]
