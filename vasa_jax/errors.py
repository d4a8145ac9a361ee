"""Errors that a person can act on, and lines that any terminal shows."""

import contextlib
import errno
import re
import sys
import unicodedata
from collections.abc import Iterator
from typing import TextIO

LONGEST_WORD = 300  # characters of one word, such as a path, that a line shows in full
LONGEST_LINE = 1000
_OF_A_PATH = (
    errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC,
    errno.EDQUOT,
)  # fmt: skip


def one_line(text: str) -> str:
    """Returns a text that a terminal shows as one line: control characters escaped, very long values shortened.

    Escaped are line ends, terminal codes, marks that turn the direction of text, and bytes that are not UTF-8.
    Escaping twice changes nothing.
    """
    shown = "".join(_escaped(char) for char in text)
    shown = re.sub(rf"\S{{{LONGEST_WORD + 1},}}", lambda word: _shortened(word.group(), 200, 60), shown)
    return _shortened(shown, 600, 350) if len(shown) > LONGEST_LINE else shown


def _escaped(char: str) -> str:
    if char.isprintable() or unicodedata.category(char) == "Zs":
        return char
    return char.encode("unicode_escape", "surrogatepass").decode()


def _shortened(text: str, first: int, last: int) -> str:
    return f"{text[:first]}[...{len(text) - first - last} characters...]{text[-last:]}"


def say(text: str, file: TextIO | None = None) -> None:
    """Prints lines whatever the terminal's encoding is; nothing where it is closed or full. Default: to stdout."""
    file = file or sys.stdout
    with contextlib.suppress(OSError, ValueError, AttributeError):  # full; closed; there is none
        encoding = file.encoding or "ascii"
        print(text.encode(encoding, "backslashreplace").decode(encoding), file=file, flush=True)


class InputError(ValueError):
    """Bad input: `<file>: <fault>; <remedy>` in one line. The command line prints it and exits with code 2.

    Whatever names and values the text holds, the error's text is one short line (`one_line`).
    """

    def __init__(self, text: str):
        super().__init__(one_line(text))


class NonFiniteError(RuntimeError):
    """Training produced a loss that is not finite; the command line exits with code 3."""


@contextlib.contextmanager
def faults_of_paths() -> Iterator[None]:
    """Makes an InputError of what the system says of a path: too long, closed, a folder in the place of a file.

    Looking whether a path exists raises that too. Other errors of the system pass: they are no fault of a path.
    """
    try:
        yield
    except OSError as error:
        path = error.filename2 or error.filename  # of a renaming the second is the one that was given
        if error.errno not in _OF_A_PATH or path is None:
            raise
        fault = (error.strerror or str(error)).lower()
        raise InputError(f"{path}: cannot be used ({fault}); give another path, or change its permissions") from error
