"""The installed `vasa-jax`, and `python -m vasa_jax`: the command line of `vasa_jax.main`."""

from typing import NoReturn

from vasa_jax.stopping import hold_signals, run_program


def program() -> NoReturn:
    """Runs the command line as this process's program, and ends the process."""
    hold_signals()  # before the import below, which takes a second
    from vasa_jax.main import main

    run_program(main)


if __name__ == "__main__":
    program()
