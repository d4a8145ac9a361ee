"""The page for preference studies: blind, whole, without network; and the sums of its votes, checked by hand."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from hostile import refused
from studio_process import CHROMIUM, chromium

from vasa_jax.config import VASAConfig, VotesConfig
from vasa_jax.data.video_files import write_video
from vasa_jax.errors import InputError
from vasa_jax.evaluation.votes import count_votes, page_text, sums, vote_page, votes_markdown


def video(path, grey, frames=3):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, (np.full((32, 32, 3), grey + i, np.uint8) for i in range(frames)))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("systems")
    for number, system in enumerate(("ours", "theirs", "real")):
        for clip in ("a/one", "two"):
            video(root / system / f"{clip}.mp4", 40 * number + len(clip))
    video(root / "ours" / "alone.mp4", 9)
    (root / "theirs" / "broken.mp4").write_bytes(b"nothing")
    (root / "theirs" / "old.avi").write_bytes(b"nothing")
    return root


def config(folders, *systems, **changes):
    chosen = tuple(str(folders / system) for system in systems)
    return VASAConfig(job="vote_page", votes=VotesConfig(folders=chosen, **changes))


@pytest.fixture(scope="module")
def made(folders, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("study")
    return vote_page(config(folders, "ours", "theirs"), workdir), workdir


def study_of(workdir):
    text = (workdir / "page" / "index.html").read_text()
    return text, json.loads(re.search(r"const study = (.*);\n", text)[1])


def test_every_clip_of_both_is_a_pair_and_the_page_names_nobody(made, folders, capsys):
    key, workdir = made
    text, study = study_of(workdir)
    assert len(study["pairs"]) == 2 and key["systems"] == ["ours", "theirs"] and len(key["videos"]) == 4
    for pair in study["pairs"]:
        systems, clips = zip(*((key["videos"][name]["system"], key["videos"][name]["clip"]) for name in pair))
        assert sorted(systems) == ["ours", "theirs"] and clips[0] == clips[1]
    for name, one in key["videos"].items():
        copy = workdir / "page" / "videos" / study["files"][name]
        assert copy.read_bytes() == (folders / one["system"] / f"{one['clip']}.mp4").read_bytes()
    files = [path.name for path in (workdir / "page").rglob("*")]
    for word in ("ours", "theirs", "one.mp4", "two.mp4", str(folders)):
        assert word not in text.replace("hours", "") and word not in files
    assert not (workdir / "page" / "key.json").exists()


def test_the_page_asks_no_network(made):
    text, _ = study_of(made[1])
    asking = r"https?:|//[a-z]|fetch\(|XMLHttpRequest|WebSocket|sendBeacon|import\(|@import|<link|src="
    assert not re.search(asking, text)
    assert "connect-src 'none'" in text


def test_the_same_videos_give_the_same_page_and_another_seed_other_names(made, folders, tmp_path):
    again = vote_page(config(folders, "ours", "theirs"), tmp_path / "again")
    assert again == made[0]
    for part in ("key.json", "page/index.html"):
        assert (tmp_path / "again" / part).read_bytes() == (made[1] / part).read_bytes()
    other = vote_page(replace(config(folders, "ours", "theirs"), seed=1), tmp_path / "other")
    assert not set(other["videos"]) & set(again["videos"])
    with pytest.raises(InputError, match=r"key.json: is of another study.*choose another --workdir"):
        vote_page(replace(config(folders, "ours", "theirs"), seed=1), tmp_path / "again")


@pytest.mark.parametrize("old", ["[]", "null", "5", '"x"', "{}"])
def test_a_key_that_is_none_is_not_written_over(folders, tmp_path, old):
    (tmp_path / "key.json").write_text(old)
    refused(lambda: vote_page(config(folders, "ours", "theirs"), tmp_path), "key.json: is of another study")
    assert (tmp_path / "key.json").read_text() == old


def test_three_folders_give_three_pairs_of_each_clip(folders, tmp_path, capsys):
    key = vote_page(config(folders, "ours", "theirs", "real"), tmp_path)
    study = study_of(tmp_path)[1]
    assert len(study["pairs"]) == 6 and len(study["files"]) == 6 and len(key["videos"]) == 6
    said = capsys.readouterr().out
    assert "left out: alone: only in ours of ours, theirs" in said and "old.avi: browsers do not play .avi" in said
    assert "left out: broken.mp4: " in said and str(folders) not in said


def test_no_text_of_a_question_ends_the_script():
    text = page_text({"questions": ["</script><b>\u2028"], "pairs": []})
    assert text.count("</script>") == 1 and "\u2028" not in text


@pytest.mark.parametrize(
    ("systems", "fault"),
    [
        (("ours",), "1 of them; give two or three"),
        (("ours", "ours"), "one folder is there twice"),
        (("ours", "missing"), "missing: does not exist"),
    ],
)
def test_folders_that_make_no_study_are_refused(folders, tmp_path, systems, fault):
    with pytest.raises(InputError, match=fault):
        vote_page(config(folders, *systems), tmp_path)
    assert not list(tmp_path.iterdir())


def test_folders_without_a_common_clip_are_refused(folders, tmp_path):
    video(tmp_path / "else" / "third.mp4", 3)
    chosen = (str(folders / "ours"), str(tmp_path / "else"))
    with pytest.raises(InputError, match=r"no clip is in two of them .*give the videos of one clip the same name"):
        vote_page(VASAConfig(job="vote_page", votes=VotesConfig(folders=chosen)), tmp_path / "out")


KEY = {
    "study": "abc", "systems": ["ours", "theirs"], "questions": ["real?", "lips?"],
    "videos": {f"{side}{clip}": {"system": system, "clip": str(clip)}
               for side, system in (("a", "ours"), ("b", "theirs")) for clip in range(6)},
}  # fmt: skip


def vote(clip, choice, question=0, mirrored=False, repeat=False):
    left, right = (f"b{clip}", f"a{clip}") if mirrored else (f"a{clip}", f"b{clip}")
    return {"left": left, "right": right, "repeat": repeat, "question": question, "choice": choice, "seconds": 1.5}


def paper(rater, *votes):
    return {"study": "abc", "rater": rater, "votes": list(votes)}


def test_wins_are_counted_whichever_side_they_were_on():
    first = paper("1", vote(0, "left"), vote(1, "right", mirrored=True), vote(2, "equal"), vote(0, "right", 1))
    second = paper("2", vote(0, "right"), vote(1, "left"), vote(2, "left"), vote(3, "left"))
    real, lips = sums(KEY, [first, second])["rows"]
    assert (real["wins"], real["losses"], real["equal"]) == (5, 1, 1) and real["rate"] == pytest.approx(5 / 6)
    assert (lips["wins"], lips["losses"], lips["rate"]) == (0, 1, 0.0)
    assert real["raters"]["mean"] == pytest.approx((2.5 / 3 + 0.75) / 2) and real["raters"]["count"] == 2
    # Wilson's interval in closed form; the binomial test: both tails of five heads in six tosses.
    z, n, p = 1.959964, 6, 5 / 6
    middle, half = p + z**2 / (2 * n), z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    assert real["low"] == pytest.approx((middle - half) / (1 + z**2 / n), abs=1e-6)
    assert real["high"] == pytest.approx((middle + half) / (1 + z**2 / n), abs=1e-6)
    assert real["p"] == pytest.approx(14 / 64)
    assert lips["raters"] == {"mean": 0.0, "count": 1}


def test_pairs_that_came_back_tell_only_whether_a_rater_is_steady():
    same = paper("1", vote(0, "left"), vote(0, "right", mirrored=True, repeat=True))
    changed = paper("2", vote(0, "left"), vote(0, "left", mirrored=True, repeat=True))
    report = sums(KEY, [same, changed])
    assert report["rows"][0]["wins"] == 2 and report["rows"][0]["losses"] == 0
    assert report["steady"] == 0.5 and report["again"] == 2


def counted(tmp_path, *papers):
    (tmp_path / "cast").mkdir()
    (tmp_path / "key.json").write_text(json.dumps(KEY))
    for number, one in enumerate(papers):
        (tmp_path / "cast" / f"{number}.json").write_text(one if isinstance(one, str) else json.dumps(one))
    settings = VotesConfig(key=str(tmp_path / "key.json"), cast=str(tmp_path / "cast"))
    return count_votes(VASAConfig(job="count_votes", votes=settings), tmp_path / "out")


def test_the_report_has_a_row_for_each_question(tmp_path):
    counted(tmp_path, paper("1", vote(0, "left")), paper("2", vote(0, "left"), vote(1, "left", 1)))
    text = (tmp_path / "out" / "report.md").read_text()
    assert "3 votes of 2 raters" in text and "| real? | ours over theirs | 1.000 [0.342, 1.000]" in text
    assert "| lips? | ours over theirs | 1.000 [0.207, 1.000] | 1.000 | 1, 0, 0 | 1 |" in text
    assert json.loads((tmp_path / "out" / "report.json").read_text())["papers"] == 2


def test_no_name_is_taken_for_markup(tmp_path):
    odd = "<img src=x onerror=alert(1)> | `a` [b](javascript:c)\n# d"
    key = {**KEY, "questions": [odd, "lips?"], "systems": ["ours", odd]}
    key["videos"] = {name: {**one, "system": key["systems"][name[0] == "b"]} for name, one in KEY["videos"].items()}
    text = votes_markdown(sums(key, [paper("1", vote(0, "left"))]))
    assert "<img" not in text and "| `" not in text and "[b](" not in text and "\n# d" not in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) == 3 and {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {7}


@pytest.mark.parametrize(
    ("papers", "fault"),
    [
        ((), "cast: holds no .json file"),
        (("{",), "0.json: not JSON"),
        (({"study": "abc", "rater": "1"},), r"0.json: votes is missing; leave it out"),
        ((paper("1", {**vote(0, "left"), "choice": "both"}),), r"votes\[0\].choice is 'both', not one of"),
        ((paper("1") | {"study": "def"},), "votes of study def, not abc"),
        ((paper("1", {**vote(0, "left"), "left": "a1"}),), "a vote on no pair"),
        ((paper("1", vote(0, "left", 2)),), "a vote on no pair"),
        ((paper("1", vote(0, "left"), vote(0, "left", mirrored=True)),), "two votes on one pair"),
        ((paper("1"), paper("1")), "rater 1 is there twice"),
    ],
)
def test_votes_that_are_none_are_refused(tmp_path, papers, fault):
    with pytest.raises(InputError, match=fault):
        counted(tmp_path, *papers)
    assert not (tmp_path / "out").exists()


@pytest.mark.browser
@pytest.mark.skipif(not CHROMIUM, reason="no Chromium here")
def test_a_browser_shows_each_pair_once_and_saves_what_is_answered(folders, tmp_path):
    """From the disk: answers by keyboard and mouse, a reload in the middle, and the file that is saved is counted."""
    key = vote_page(config(folders, "ours", "theirs", questions=("real?", "lips?"), repeats=1), tmp_path)
    asked, address = [], (tmp_path / "page" / "index.html").as_uri()
    with chromium() as browser:
        page = browser.new_context(accept_downloads=True).new_page()
        page.set_default_timeout(30_000)
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        page.click("#start")
        for number in range(3):
            if number == 1:
                page.reload()
                assert "1 done" in page.text_content("#count")
                page.click("#start")
            assert page.is_disabled("#next") and f"{number + 1} of 3" in page.text_content("#progress")
            page.keyboard.press(" ")
            page.wait_for_function("seen.left && seen.right")
            page.keyboard.press("ArrowLeft")
            page.click("fieldset:nth-of-type(2) [data-choice=equal]")
            page.click("#next")
        with page.expect_download() as download:
            page.click("#save")
        (tmp_path / "cast").mkdir()
        download.value.save_as(tmp_path / "cast" / "one.json")
    assert all(url.startswith((tmp_path.as_uri(), "blob:")) for url in asked)
    votes = json.loads((tmp_path / "cast" / "one.json").read_text())["votes"]
    assert len(votes) == 6 and sum(vote["repeat"] for vote in votes) == 2
    assert {vote["choice"] for vote in votes if vote["question"] == 1} == {"equal"}
    settings = VotesConfig(key=str(tmp_path / "key.json"), cast=str(tmp_path / "cast"))
    report = count_votes(VASAConfig(job="count_votes", votes=settings), tmp_path / "sums")
    real, lips = report["rows"]
    assert real["wins"] + real["losses"] == 2 and lips["equal"] == 2 and report["study"] == key["study"]
