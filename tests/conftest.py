"""Shared by all tests: CPU only, programs compiled quickly, and kept between runs."""

import os

from quick_compilation import QUICK_FLAGS

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
os.environ.setdefault("XLA_FLAGS", QUICK_FLAGS)
# librosa's import compiles for half a minute in every new process cache; the tests call its compiled parts for moments.
os.environ.setdefault("NUMBA_DISABLE_JIT", "1")

import jax
import pytest
from typecheck import check_annotations

check_annotations()


@pytest.fixture(scope="session", autouse=True)
def _own_settings(tmp_path_factory):
    """What a machine keeps (its signing key) is the tests' own."""
    os.environ["XDG_CONFIG_HOME"] = str(tmp_path_factory.mktemp("settings"))


@pytest.fixture(scope="session", autouse=True)
def _compilation_cache(tmp_path_factory):
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.getbasetemp().parent / "jit"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
