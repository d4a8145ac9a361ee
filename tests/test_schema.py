"""The one check of JSON from files: types are exact, ranges closed, and the first fault is named by its place."""

import pytest

from vasa_jax.errors import InputError
from vasa_jax.schema import Each, FileName, Flag, Maybe, Named, Real, Text, Whole, With, check


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        (Whole(0, 3), (0, 3), (-1, 4, 1.0, True, "1", None, [], float("nan"), 10**400)),
        (Real(-1, 1), (0, -1, 0.5), (2, float("nan"), float("inf"), True, "0", None, 10**400)),
        (Flag(), (True, False), (0, 1, "true", None)),
        (Text(1, 3), ("a", "äöü"), ("", "four", "\ud800", 5, None, ["a"])),
        (Text(choices=("x", "y")), ("x",), ("z", "", 5, None, [])),
        (Text(2, 2, alphabet="01"), ("01",), ("02", "0", "0 ")),
        (FileName(), ("a.b", "é"), ("", ".", "..", "a/b", "/a", "a\\b", "a\0", "c:", "a" * 256, 5, None)),
        (Each(Flag(), 1, 2), ([True], [True, False]), ([], [1], [True] * 3, {}, "ab", None)),
        (Maybe(Flag()), (None, True), (0, "")),
        (Named(Flag()), ({}, {"a": True}), ({"a": 1}, [], None, "a")),
        (Named(None, least=1, choices=("a",)), ({"a": [[1]]},), ({}, {"b": 1}, {"a": 1, "b": 1})),
        ({"a": Flag()}, ({"a": True},), ({}, {"a": 1}, {"a": True, "b": 1}, [], None)),
        (With({"a": Flag()}, Whole(0, 1)), ({"a": True}, {"a": True, "b": 1}), ({}, {"a": True, "b": 2}, {"b": 1})),
        (None, (None, 5, [{}]), ()),
    ],
)
def test_types_and_ranges(schema, good, bad):
    for value in good:
        assert check(value, schema, "x.json", "mend it") is value
    for value in bad:
        with pytest.raises(InputError, match=r"^x\.json: .*; mend it$"):
            check(value, schema, "x.json", "mend it")


def test_the_place_of_the_first_fault_is_named():
    schema = {"shards": Each({"files": Named({"bytes": Whole(0, 9)})}), "note": Text()}
    for value, text in (
        ({"shards": [{"files": {}}, {"files": {"a": {"bytes": "5"}}}], "note": 1},
         "x.json: shards[1].files.a.bytes is '5', not a whole number from 0 to 9; mend it"),
        ({"shards": [{"files": {"a": {}}}], "note": ""}, "x.json: shards[0].files.a.bytes is missing; mend it"),
        ({"shards": [], "note": "a" * 2000},
         f"x.json: note is '{'a' * 39}..., not a text of 1 to 1000 characters; mend it"),
        ({"shards": [], "note": "a", "more": 1}, "x.json: more is unknown; mend it"),
        ([], "x.json: it is a list, not an object; mend it"),
    ):  # fmt: skip
        with pytest.raises(InputError) as caught:
            check(value, schema, "x.json", "mend it")
        assert str(caught.value) == text
