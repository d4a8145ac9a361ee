"""The command line: `python -m vasa_jax.main --config configs/X.py [--config.field=value ...] [--workdir DIR]`.

One job per run. Exit codes: 0 done, 2 bad input, 3 non-finite training, 75 preempted and saved.
"""

import itertools
import os
import sys
from pathlib import Path

from absl import flags, logging
from ml_collections import config_flags

from vasa_jax.config import VASAConfig, field_names, nearest_name
from vasa_jax.errors import InputError, NonFiniteError

HELP = {"--help", "-help", "-h", "--helpfull", "--helpshort"}

def run(config: VASAConfig, workdir: str | Path = "") -> object:
    """Does the configured job and returns what it made; the same from Python as from the command line."""
    config.validate()
    workdir = Path(workdir or Path("runs") / config.job)
    if config.job == "generate":
        from vasa_jax.generation.job import generate

        return generate(config)
    if config.job == "detect":
        from vasa_jax.generation.detect import detect

        return detect(config)
    if config.job == "evaluate_marks":
        from vasa_jax.evaluation.marks import evaluate_marks

        return evaluate_marks(config, workdir)
    if config.job == "evaluate":
        from vasa_jax.evaluation.evaluator import evaluate

        return evaluate(config, workdir)
    if config.job == "evaluate_controls":
        from vasa_jax.evaluation.controls_evaluator import evaluate_controls

        return evaluate_controls(config, workdir)
    if config.job == "evaluate_face":
        from vasa_jax.evaluation.face_evaluator import evaluate_face

        return evaluate_face(config, workdir)
    if config.job == "erase_pose":
        from vasa_jax.training.pose_erasure import erase_pose

        return erase_pose(config, workdir)
    if config.job == "evaluate_drift":
        from vasa_jax.evaluation.drift import evaluate_drift

        return evaluate_drift(config, workdir)
    if config.job == "evaluate_voices":
        from vasa_jax.evaluation.voices import evaluate_voices

        return evaluate_voices(config, workdir)
    if config.job == "benchmark_renderer":
        from vasa_jax.benchmarks.renderer import benchmark_renderer

        return benchmark_renderer(config.renderer_benchmark, workdir)
    if config.job == "benchmark_reading":
        from vasa_jax.benchmarks.reading import benchmark_reading

        return benchmark_reading(config.reading_benchmark, workdir)
    if config.job == "corpus_sheets":
        from vasa_jax.evaluation.corpus_sheets import corpus_sheets

        return corpus_sheets(config.corpus_sheets, config.seed, workdir)
    if config.job == "synthesize":
        from vasa_jax.corpus.write import synthesize

        return synthesize(config.synthesis, config.seed, workdir)
    if config.job == "benchmark":
        from vasa_jax.benchmarks.generation import benchmark

        return benchmark(config, workdir)
    if config.job == "prepare":
        from vasa_jax.preparation.prepare import prepare

        return prepare(config)
    if config.job == "label_accuracy":
        from vasa_jax.preparation.label_accuracy import label_accuracy

        return label_accuracy(config.label_accuracy, config.prepare, config.seed, workdir)
    if config.job == "extract_motion":
        from vasa_jax.training.tasks.stored_motion import extract_motion

        return extract_motion(config, workdir)
    from vasa_jax.training.jobs import train

    return train(config, workdir)


def main(arguments: list[str] | None = None) -> int:
    """Parses the command line, runs the job and returns the exit code."""
    arguments = list(sys.argv if arguments is None else arguments)
    if HELP.intersection(arguments):
        print(__doc__)
        print("\n".join(f"--config.{name}" for name in field_names(VASAConfig().to_config_dict())))
        return 0
    try:
        config, workdir = parse(arguments)
        if config.train.distributed:
            from vasa_jax.training.processes import start_processes

            start_processes()
        use_compilation_cache()
        if config.job.startswith(("evaluate", "benchmark")):
            logging.set_verbosity(logging.INFO)  # minutes go by; trainings log by themselves, and checkpoints much more
        run(config, workdir)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except NonFiniteError as error:
        print(f"error: {error}", file=sys.stderr)
        return 3
    return 0


def parse(arguments: list[str]) -> tuple[VASAConfig, str]:
    """Program name and options to (validated settings, workdir); InputError in one line for a mistake."""
    # Own flag values: what one command line sets does not stay for the next one in the same process.
    values = flags.FlagValues()
    holder = config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=arguments, lock_config=True)
    workdir = flags.DEFINE_string("workdir", "", "where a run writes; default runs/<job>", flag_values=values)
    try:
        rest = values(arguments)
        config = None if holder.value is None else holder.value.copy_and_resolve_references()
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError, SyntaxError, ImportError) as error:
        raise InputError(_flag_fault(str(error), arguments)) from error
    if len(rest) > 1:
        raise InputError(f"command line: '{rest[1]}' is not an option; settings are written --config.name=value")
    if config is None:
        raise InputError("command line: no --config; give one, e.g. --config configs/demo.py")
    # Grain reads absl's global flags, which nobody else parses here.
    flags.FLAGS.mark_as_parsed()
    return VASAConfig.from_config_dict(config), workdir.value


def _flag_fault(text: str, arguments: list[str]) -> str:
    """One line about what is wrong with the command line, with the nearest setting's name."""
    known = field_names(VASAConfig().to_config_dict())
    for argument in arguments[1:]:
        name = argument.lstrip("-").split("=")[0]
        if name.startswith("config.") and name.removeprefix("config.") not in known:
            hint = nearest_name(name.removeprefix("config."), known) or " see vasa_jax/config.py"
            return f"{name}: no such setting;{hint}"
        if name == "config":
            path = argument.partition("=")[2] or dict(itertools.pairwise(arguments)).get(argument, "")
            if not Path(path).is_file():
                return f"{path or '--config'}: no such configuration file; the shipped ones are in configs/"
    return f"command line: {' '.join(text.split())}; python -m vasa_jax.main --help lists the options"


def use_compilation_cache() -> None:
    """Keeps compiled programs between runs: the second run of a command starts in seconds."""
    import jax

    if not jax.config.jax_compilation_cache_dir:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        jax.config.update("jax_compilation_cache_dir", str(Path(home) / "vasa_jax" / "jit"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


if __name__ == "__main__":
    sys.exit(main())
