"""Results of a long count, kept one by one, so that a run that was ended goes on where it was."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vasa_jax.errors import InputError
from vasa_jax.files import as_json, difference, parse_json, read_bytes, run_in_processes, write_text
from vasa_jax.schema import Named, Whole, With, check

LARGEST = 2**30  # bytes


class Ledger:
    """Rows by number, in a file of JSON lines; the first line says what decided them.

    Attributes:
      rows: what was counted so far.
    """

    def __init__(self, path: Path, key: Mapping[str, Any], like: Mapping[str, Any]):
        """Reads what an earlier run left; InputError where it had other settings, or the file is none of these.

        like: what every row has, a schema by name.
        """
        self._path, self.rows = path, {}
        key = as_json(key)
        if not path.exists():
            write_text(path, json.dumps({"key": key}) + "\n")
            return
        remedy = "delete it to count anew"
        whole = [line for line in read_bytes(path, remedy, LARGEST).splitlines(keepends=True) if line.endswith(b"\n")]
        entries = [parse_json(line, f"{path}: line {number}", remedy) for number, line in enumerate(whole, 1)]
        if not entries:
            raise InputError(f"{path}: is no list of results; {remedy}")
        made = check(entries[0], {"key": Named()}, f"{path}: line 1", remedy)["key"]
        for number, entry in enumerate(entries[1:], 2):
            row = check(entry, With({"number": Whole(0, 10**9), **like}, None), f"{path}: line {number}", remedy)
            self.rows[row.pop("number")] = row
        if made != key:
            fault = difference(made, key)
            raise InputError(f"{path}: was made with other settings ({fault}); delete it, or choose another folder")
        write_text(path, b"".join(whole).decode())  # without a line that was not finished

    def add(self, number: int, row: dict[str, Any]) -> None:
        """Keeps a row."""
        row = as_json(row)
        self.rows[number] = row
        with open(self._path, "a") as file:
            file.write(json.dumps({"number": number} | row) + "\n")

    def count(self, function: Callable[[Any], dict], jobs: Sequence[Any], workers: int) -> Iterator[int]:
        """Adds `function(job)` of all jobs that have no row yet; yields how many jobs have one, after each."""
        missing = [number for number in range(len(jobs)) if number not in self.rows]
        for place, row in run_in_processes(function, _Chosen(jobs, missing), workers):
            self.add(missing[place], row)
            yield len(jobs) - len(missing) + place + 1

    def first(self, count: int) -> list[dict[str, Any]]:
        """Returns the rows of the numbers below `count` that there are."""
        return [self.rows[number] for number in range(count) if number in self.rows]


class _Chosen(Sequence):
    def __init__(self, jobs: Sequence[Any], numbers: list[int]):
        self._jobs, self._numbers = jobs, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, place: int) -> Any:
        return self._jobs[self._numbers[place]]
