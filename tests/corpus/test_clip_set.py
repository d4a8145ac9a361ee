"""Sets of clips: the death of a worker is named, and a cache is not taken for another set."""

import dataclasses
import os
import signal

import numpy as np
import pytest

from vasa_jax.config import CorpusConfig
from vasa_jax.corpus import clip_set
from vasa_jax.corpus.clip_set import ClipSet
from vasa_jax.errors import InputError

SHIPPED = CorpusConfig(speech="shipped", voices_per_clip=1, workers=1)


def dies(job):
    """In the place of `_make_clip`."""
    os.kill(os.getpid(), signal.SIGKILL)


def test_workers_that_always_die_are_named(monkeypatch):
    monkeypatch.setattr(clip_set, "_make_clip", dies)
    with pytest.raises(InputError, match=r"config\.corpus\.workers"):
        ClipSet.make(dataclasses.replace(SHIPPED, workers=2), 2, "train", 0)


def test_a_cache_holds_what_it_is_asked_for(tmp_path, monkeypatch):
    """Twice with the same settings: read; with any other: made anew, whatever is in the folder already."""
    made = []
    make_clip = clip_set._make_clip
    monkeypatch.setattr(clip_set, "_make_clip", lambda job: made.append(job) or make_clip(job))
    corpus = dataclasses.replace(SHIPPED, cache=str(tmp_path))
    plain = (corpus, 1, "train", 0)
    first = ClipSet.make(*plain)
    assert len(made) == 1
    again = ClipSet.make(*plain)
    assert len(made) == 1
    for field in dataclasses.fields(ClipSet):
        np.testing.assert_array_equal(getattr(again, field.name), getattr(first, field.name))
    others = [
        (corpus, 2, "train", 0), (corpus, 1, "heldout", 0), (corpus, 1, "train", 1),
        (dataclasses.replace(corpus, voices_per_clip=2), 1, "train", 0),
    ]  # fmt: skip
    for number, other in enumerate(others):
        before = len(made)
        found = ClipSet.make(*other)
        assert len(made) == before + other[1], number
        assert found.samples.shape[:2] == (other[1], other[0].voices_per_clip)
    files = sorted(tmp_path.iterdir())
    assert len(files) == 5
    (tmp_path / "clips-train-0-1x1-shipped.npz").replace(tmp_path / "clips-train-7-1x1-shipped.npz")
    with pytest.raises(InputError, match="seed 0, now 7"):
        ClipSet.make(corpus, 1, "train", 7)
