"""Every shipped configuration builds, validates and names parts that exist."""

import importlib.util
from pathlib import Path

import pytest

from vasa_jax.config import VASAConfig
from vasa_jax.config_checks import JOBS
from vasa_jax.models.audio import AUDIO_VARIANTS
from vasa_jax.models.motion import MOTION_VARIANTS
from vasa_jax.models.variants import FACE_VARIANTS

CONFIGS = sorted((Path(__file__).parent.parent / "configs").glob("*.py"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configuration_is_valid(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = VASAConfig.from_config_dict(module.get_config())
    assert config.job in JOBS
    assert VASAConfig.from_config_dict(config.to_config_dict()) == config
    assert config.face.variant in FACE_VARIANTS
    assert config.speech.variant in AUDIO_VARIANTS
    assert config.motion.variant in MOTION_VARIANTS
    assert "python -m vasa_jax.main" in module.__doc__
    assert f"configs/{path.name}" in module.__doc__
