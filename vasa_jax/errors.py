"""Errors a person can act on."""


class InputError(ValueError):
    """Bad input: `<file>: <fault>; <remedy>` in one line. The command line prints it and exits with code 2."""


class NonFiniteError(RuntimeError):
    """Training produced a loss that is not finite; the command line exits with code 3."""
