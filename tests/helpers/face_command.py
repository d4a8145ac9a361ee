"""What test_face_command.py runs in a process of its own: `python face_command.py ARGUMENTS OF main`, with the smallest
codec that there is under the name `face_least`.
"""

import sys

from tiny_face import add_variant

from vasa_jax.main import main

if __name__ == "__main__":
    add_variant()
    sys.exit(main(["main", *sys.argv[1:]]))
