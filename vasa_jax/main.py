"""The command line: `python -m vasa_jax.main --config configs/X.py [--config.field=value ...] [--workdir DIR]`.

Installed, `vasa-jax` is the same; `--config demo` names a shipped configuration. One job per run. Exit codes: 0 done,
2 bad input, 3 non-finite training, 75 preempted and saved, 130 interrupted, 143 terminated.
"""

import contextlib
import dataclasses
import importlib
import importlib.machinery
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from vasa_jax.stopping import (
    INTERRUPTED,
    PREEMPTED,
    TERMINATED,
    ended_by_sigterm,
    hold_signals,
    release_sigterm,
    run_program,
)

if __name__ == "__main__":
    hold_signals()  # before the imports below, which take a second

from absl import flags, logging
from ml_collections import ConfigDict, config_flags

from vasa_jax.config import VASAConfig
from vasa_jax.errors import InputError, NonFiniteError, faults_of_paths, say
from vasa_jax.settings import described, nearest_name, setting_names, with_current_names

JOBS = {
    "generate": "vasa_jax.generation.job:generate",
    "reenact": "vasa_jax.generation.reenact_job:reenact",
    "detect": "vasa_jax.generation.detect:detect",
    "studio": "vasa_jax.serving.job:studio",
    "train_face": "vasa_jax.training.jobs:train",
    "train_audio": "vasa_jax.training.jobs:train",
    "train_motion": "vasa_jax.training.jobs:train",
    "train_face_probe": "vasa_jax.training.jobs:train",
    "train_loss_networks": "vasa_jax.training.jobs:train",
    "train_emotion": "vasa_jax.training.jobs:train",
    "train_capp": "vasa_jax.training.jobs:train",
    "train_sync": "vasa_jax.training.jobs:train",
    "train_lips": "vasa_jax.training.jobs:train",
    "train_matte": "vasa_jax.training.jobs:train",
    "train_retargeting": "vasa_jax.training.jobs:train",
    "extract_motion": "vasa_jax.training.tasks.stored_motion:extract_motion",
    "erase_pose": "vasa_jax.training.pose_erasure:erase_pose",
    "evaluate": "vasa_jax.evaluation.talking:evaluate",
    "evaluate_controls": "vasa_jax.evaluation.controls:evaluate_controls",
    "evaluate_audio": "vasa_jax.evaluation.hearing:evaluate_audio",
    "evaluate_face": "vasa_jax.evaluation.codec:evaluate_face",
    "evaluate_drift": "vasa_jax.evaluation.long_video:evaluate_drift",
    "evaluate_voices": "vasa_jax.evaluation.real_audio:evaluate_voices",
    "evaluate_photos": "vasa_jax.evaluation.photos:evaluate_photos",
    "evaluate_videos": "vasa_jax.evaluation.videos:evaluate_videos",
    "evaluate_tables": "vasa_jax.evaluation.paper_tables:evaluate_tables",
    "vote_page": "vasa_jax.evaluation.votes:vote_page",
    "count_votes": "vasa_jax.evaluation.votes:count_votes",
    "evaluate_marks": "vasa_jax.evaluation.marks:evaluate_marks",
    "corpus_sheets": "vasa_jax.evaluation.corpus_sheets:corpus_sheets_job",
    "benchmark": "vasa_jax.benchmarks.generation:benchmark",
    "benchmark_renderer": "vasa_jax.benchmarks.renderer:benchmark_renderer_job",
    "benchmark_reading": "vasa_jax.benchmarks.reading:benchmark_reading_job",
    "benchmark_live": "vasa_jax.benchmarks.live_clients:benchmark_live",
    "synthesize": "vasa_jax.corpus.write:synthesize_job",
    "speech_corpus": "vasa_jax.corpus.voices.write_speech:speech_corpus",
    "prepare": "vasa_jax.preparation.prepare:prepare",
    "fit_photos": "vasa_jax.preparation.photos:fit_photos",
    "label_accuracy": "vasa_jax.preparation.label_accuracy:label_accuracy_job",
    "import_weights": "vasa_jax.weights.importer:import_weights_job",
}  # the one list of jobs: name -> module and function of (config, workdir), imported when it is run
RENAMED = {"train_instrument": "train_face_probe", "train_judge": "train_loss_networks"}  # old jobs and their configs
HELP = {"--help", "-help", "-h", "--helpfull", "--helpshort"}


def run(config: VASAConfig, workdir: str | Path = "") -> object:
    """Does the configured job and returns what it made; the same from Python as from the command line.

    workdir: where the job writes; default runs/<job>. InputError for a bad setting or input.
    """
    config = dataclasses.replace(config, job=current_job(config.validate().job))
    # A training that is preempted while it makes its data has nothing to save.
    ended = _ended_by_sigterm(config) if _stop_code(config) == PREEMPTED else contextlib.nullcontext()
    with ended, faults_of_paths():
        return job_function(config.job)(config, Path(workdir or Path("runs") / config.job))


def _stop_code(config: VASAConfig) -> int:
    """Returns the exit code of the job after SIGTERM."""
    return PREEMPTED if JOBS[config.job].endswith(":train") else TERMINATED


def _ended_by_sigterm(config: VASAConfig) -> contextlib.AbstractContextManager[None]:
    if config.train.distributed:  # of several processes JAX listens
        return contextlib.nullcontext()
    return ended_by_sigterm(_stop_code(config))


def current_job(name: str) -> str:
    """Returns the name of a job, which may be given by its old one; InputError for what is no job."""
    if name in RENAMED:
        logging.warning("job %s is now called %s; the old name is accepted for one release", name, RENAMED[name])
        return RENAMED[name]
    if name not in JOBS:
        hint = nearest_name(name, JOBS) or f" choose one of {', '.join(JOBS)}"
        raise InputError(f"config.job: '{name}' is unknown;{hint}")
    return name


def job_function(name: str) -> Callable[[VASAConfig, Path], object]:
    """Returns the function of a job."""
    module, _, function = JOBS[name].partition(":")
    return getattr(importlib.import_module(module), function)


def main(arguments: list[str] | None = None) -> int:
    """Parses the command line, runs the job and returns the exit code."""
    arguments = list(sys.argv if arguments is None else arguments)
    if HELP.intersection(arguments):
        print(__doc__)
        print(f"Jobs: {', '.join(JOBS)}.\n\nSettings, with their defaults:\n")
        print("\n".join(f"--config.{line}" for line in described(VASAConfig)))
        return 0
    try:
        config, workdir = parse(arguments)
        release_sigterm(_stop_code(config))
        with _ended_by_sigterm(config):
            if config.train.distributed:
                from vasa_jax.training.processes import start_processes

                start_processes()
            use_compilation_cache()
            if config.job.startswith(("evaluate", "benchmark")):
                logging.set_verbosity(logging.INFO)  # minutes go by; trainings log by themselves, checkpoints much more
            run(config, workdir)
    except InputError as error:
        say(f"error: {error}", sys.stderr)
        return 2
    except NonFiniteError as error:
        say(f"error: {error}", sys.stderr)
        return 3
    except KeyboardInterrupt:
        say("interrupted", sys.stderr)
        return INTERRUPTED
    return 0


def program() -> NoReturn:
    """Runs `main` as this process's program, and ends the process."""
    run_program(main)


def parse(arguments: list[str]) -> tuple[VASAConfig, str]:
    """Returns the validated settings and the workdir of a program's name and options.

    InputError in one line for a mistake.
    """
    path, arguments = _config_file(with_current_names(VASAConfig, arguments))
    if path is None:
        raise InputError("command line: no --config; give one, e.g. --config configs/demo.py")
    # Own flag values: what one command line sets does not stay for the next one in the same process.
    values, config = flags.FlagValues(), load_config(shipped_config(path))
    workdir = flags.DEFINE_string("workdir", "", "where a run writes; default runs/<job>", flag_values=values)
    try:
        holder = config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=arguments)
        rest = values(arguments)
        config = holder.value.copy_and_resolve_references()
    except InputError:
        raise
    except Exception as error:  # absl's, and those of whatever a value is made into
        fault = str(error) if isinstance(error, flags.Error) else f"{type(error).__name__}: {error}"
        raise InputError(_flag_fault(fault, arguments)) from error
    if len(rest) > 1:
        raise InputError(f"command line: '{rest[1]}' is not an option; settings are written --config.name=value")
    # Grain reads absl's global flags, which nobody else parses here.
    flags.FLAGS.mark_as_parsed()
    result = VASAConfig.from_config_dict(config)
    return dataclasses.replace(result, job=current_job(result.job)), workdir.value


def load_config(path: str) -> ConfigDict:
    """Runs a configuration file, which is a program, and returns what its `get_config()` makes.

    InputError, which names the file, whatever it raises.
    """
    if not os.path.isfile(path):
        shipped = sorted(file.stem for file in _shipped_folder().glob("*.py"))
        hint = nearest_name(Path(path).stem, shipped) or f" the shipped ones are {', '.join(shipped)}"
        raise InputError(f"{path or '--config'}: no such configuration file;{hint}")
    loader = importlib.machinery.SourceFileLoader("configuration", path)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    sys.modules[loader.name] = module  # as that of any module that is imported
    try:
        loader.exec_module(module)
        config = module.get_config()
    except (InputError, KeyboardInterrupt):
        raise
    except BaseException as error:
        fault = f"{type(error).__name__}: {' '.join(str(error).split())}".strip(": ")
        raise InputError(
            f"{path}: this configuration file fails ({fault}); mend it, or start from a shipped one"
        ) from error
    if not isinstance(config, ConfigDict):
        raise InputError(f"{path}: its get_config() returns no ConfigDict; return VASAConfig().to_config_dict()")
    return config


def _config_file(arguments: list[str]) -> tuple[str | None, list[str]]:
    """Returns what the last --config names, None without, and the arguments that are left."""
    path, left, given = None, [], iter(arguments)
    for argument in given:
        name, equals, value = argument.partition("=")
        if name in ("--config", "-config"):
            path = value if equals else next(given, "")
        else:
            left.append(argument)
    return path, left


def shipped_config(name: str) -> str:
    """Returns the path of a shipped configuration of this name; the name itself where a file of it is here, or none."""
    wanted = Path(name)
    if os.path.isfile(wanted) or wanted.parent not in (Path("."), Path("configs")):
        return name
    path = _shipped_folder() / f"{RENAMED.get(wanted.stem, wanted.stem)}.py"
    return str(path) if os.path.isfile(path) else name


def _shipped_folder() -> Path:
    """Returns where the shipped configurations are: in the package when installed, beside it in a checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def _flag_fault(text: str, arguments: list[str]) -> str:
    """Returns one line about what is wrong with the command line, with the nearest setting's name."""
    known = setting_names(VASAConfig)
    for argument in arguments[1:]:
        name = argument.lstrip("-").split("=")[0]
        if name.startswith("config.") and name.removeprefix("config.") not in known:
            hint = nearest_name(name.removeprefix("config."), known) or " --help lists all of them"
            return f"{name}: no such setting;{hint}"
    return f"command line: {' '.join(text.split())}; python -m vasa_jax.main --help lists the options"


def use_compilation_cache() -> None:
    """Keeps compiled programs between runs, where there is a folder for them: the next run starts in seconds."""
    import jax

    if jax.config.jax_compilation_cache_dir:
        return
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vasa_jax" / "jit"
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, RuntimeError):  # no home folder, or one that may not be written: every run compiles
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


if __name__ == "__main__":
    program()
