"""Shared by all tests: CPU only, programs compiled quickly, and kept between runs."""

import gc
import os
import tempfile

from quick_compilation import QUICK_FLAGS

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
os.environ.setdefault("XLA_FLAGS", QUICK_FLAGS)
os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")  # programs carry no lines of Python: lowered sooner
os.environ.setdefault("NUMBA_OPT", "0")  # of librosa: its import compiles for 11 s instead of 19
# Two processes that fill one cache of Numba at once (librosa's, at its import) leave programs that crash when called.
os.environ["NUMBA_CACHE_DIR"] = os.path.join(
    tempfile.gettempdir(), f"vasa_jax-numba-{os.getuid()}-{os.environ.get('PYTEST_XDIST_WORKER', 'alone')}"
)

import jax
import pytest
from typecheck import check_annotations

check_annotations()
gc.set_threshold(50_000, 20, 50)  # traces make millions of objects that die without it


@pytest.fixture(scope="session", autouse=True)
def _own_settings(tmp_path_factory):
    """What a machine keeps (its signing key) is the tests' own."""
    os.environ["XDG_CONFIG_HOME"] = str(tmp_path_factory.mktemp("settings"))


@pytest.fixture(scope="session", autouse=True)
def _compilation_cache(tmp_path_factory):
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.getbasetemp().parent / "jit"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
