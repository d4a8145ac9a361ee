"""The TFDS builder of records; in a package of its own, as TFDS wants it."""
