"""ONNX files of neural synthesisers, with the inner tensor that holds their predicted durations as an output more."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from vasa_jax.conventions import SAMPLE_RATE
from vasa_jax.errors import InputError

NEEDS = "run `pip install onnx onnxruntime` (extra voices)"


class TimedGraph:
    """A synthesiser's graph that also tells how long each of its letters lasts."""

    def __init__(self, model: bytes, durations: str, hop_seconds: float, where: str):
        """Loads a graph; `durations` is the inner tensor, in hops of `hop_seconds`. `where` begins the errors.

        InputError for a missing package, for what is no ONNX file, and for a graph without the tensor.
        """
        try:
            import onnx
            import onnxruntime
        except ImportError as error:
            raise InputError(f"{error.name}: not installed, {where} needs it; {NEEDS}") from None
        try:
            graph = onnx.load_from_string(model)
            known = {name for node in graph.graph.node for name in node.output}
        except Exception as error:  # the reader of protocol buffers has errors of its own
            raise InputError(f"{where}: is no ONNX file; give the voice's .onnx") from error
        if durations not in known:
            raise InputError(f"{where}: has no inner tensor {durations}; give a voice that was exported like Piper's")
        if durations not in {output.name for output in graph.graph.output}:
            graph.graph.output.append(onnx.ValueInfoProto(name=durations))  # type and shape are inferred
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # processes share the cores
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # the runtime's errors are its own
            raise InputError(f"{where}: cannot be run ({type(error).__name__}); give an intact .onnx") from error
        self._durations, self._hop = durations, hop_seconds
        self._sound = next(output.name for output in graph.graph.output if output.name != durations)

    def speak(self, feed: dict[str, Any], owner: Sequence[int], units: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns samples f32 (N,) at the graph's own rate, and seconds (units + 1,) where each unit begins.

        owner: number of the unit of each letter, -1 before the first and `units` after the last.
        """
        sound, durations = self._session.run([self._sound, self._durations], feed)
        ends = np.cumsum(np.ravel(durations)) * self._hop
        starts = np.concatenate([[0.0], ends[:-1]])
        first = np.minimum(np.searchsorted(np.asarray(owner), np.arange(units + 1)), len(starts) - 1)
        return np.ravel(sound).astype(np.float32), starts[first]


def at_speech_rate(samples: np.ndarray, rate: int) -> np.ndarray:
    """Returns f32 samples (N,) of `rate` Hz at 16 kHz."""
    import soxr

    if rate == SAMPLE_RATE:
        return samples.astype(np.float32)
    return soxr.resample(samples.astype(np.float32), rate, SAMPLE_RATE).astype(np.float32)
