"""What an update costs and how much of the hardware it uses."""

import dataclasses
from typing import Any

import jax

from vasa_jax.benchmarks.flops import flop_of

# Dense peak of one device in TFLOP/s (bfloat16), by a part of jax.Device.device_kind; makers' data sheets.
PEAK_TFLOPS = {
    "H200": 989.0,
    "H100": 989.0,
    "A100": 312.0,
    "L4": 121.0,
    "TPU v4": 275.0,
    "TPU v5 lite": 197.0,
    "TPU v5e": 197.0,
    "TPU v5p": 459.0,
    "TPU v5": 459.0,
    "TPU v6 lite": 918.0,
    "TPU v6e": 918.0,
}
_GIB = 2**30


@dataclasses.dataclass(frozen=True)
class UpdateCost:
    """Of one compiled update: FLOP of the whole mesh, GiB per device."""

    flop: float  # as the model asks for them, before the compiler fuses or repeats any
    devices: int
    arguments_gib: float  # state and batch
    temporary_gib: float

    def __str__(self) -> str:
        return (
            f"update: {self.flop / 1e9:.4g} GFLOP, {self.arguments_gib:.3f} GiB of state and batch and "
            f"{self.temporary_gib:.3f} GiB of temporaries per device, {self.devices} device{'s' * (self.devices > 1)}"
        )

    def utilisation(self, seconds: float, device_kind: str) -> float | None:
        """Model FLOP utilisation of an update that takes `seconds`; None where the peak is unknown."""
        peak = peak_flops(device_kind)
        return self.flop / (seconds * self.devices * peak) if peak else None


def update_cost(traced: Any, compiled: Any, devices: int) -> UpdateCost:
    """The cost of a `jax.stages.Traced` update and its `Compiled` form; memory a back end does not tell counts as 0."""
    memory = compiled.memory_analysis()
    return UpdateCost(
        float(flop_of(traced.jaxpr)),
        devices,
        getattr(memory, "argument_size_in_bytes", 0) / _GIB,
        getattr(memory, "temp_size_in_bytes", 0) / _GIB,
    )


def peak_flops(device_kind: str) -> float | None:
    """FLOP/s of a device, bfloat16; None for a kind that is not in the table."""
    names = [name for name in PEAK_TFLOPS if name.lower() in device_kind.lower()]
    return PEAK_TFLOPS[max(names, key=len)] * 1e12 if names else None


def device_memory() -> dict[str, float]:
    """GiB in use, and at most in use so far, on this process's first device; empty where it does not tell."""
    stats = jax.local_devices()[0].memory_stats() or {}
    names = {"device_memory_gib": "bytes_in_use", "device_memory_peak_gib": "peak_bytes_in_use"}
    return {name: stats[key] / _GIB for name, key in names.items() if key in stats}
