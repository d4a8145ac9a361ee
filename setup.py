"""Packages of the distribution; all else is in pyproject.toml, which cannot say that one lies in another folder."""

from setuptools import find_namespace_packages, setup

setup(
    packages=[*find_namespace_packages(include=["vasa_jax*"]), "vasa_jax.configs"],
    package_dir={"vasa_jax.configs": "configs"},  # so that the shipped configurations are found when installed
)
