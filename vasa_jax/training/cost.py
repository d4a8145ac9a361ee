"""What an update costs and how much of the hardware it uses."""

import dataclasses
import re
from typing import Any

import jax

from vasa_jax.training.flops import flop_of

# Dense peak of one device in TFLOP/s (bfloat16), by whole words of jax.Device.device_kind; makers' data sheets.
PEAK_TFLOPS = {
    "H200": 989.0,
    "H100": 989.0,  # SXM
    "H100 NVL": 835.0,
    "H100 PCIe": 756.0,
    "A100": 312.0,
    "L40S": 362.0,
    "L40": 181.0,
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
    """Work of one compiled update: FLOP on the whole mesh, GiB on each device."""

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
        """Returns the model FLOP utilisation of an update that takes `seconds`; None where the peak is unknown."""
        peak = peak_flops(device_kind)
        return self.flop / (seconds * self.devices * peak) if peak else None


def update_cost(traced: Any, compiled: Any, devices: int) -> UpdateCost:
    """Returns the cost of a `jax.stages.Traced` update and its `Compiled` form.

    Memory that a back end does not tell counts as 0.
    """
    memory = compiled.memory_analysis()
    return UpdateCost(
        float(flop_of(traced.jaxpr)),
        devices,
        getattr(memory, "argument_size_in_bytes", 0) / _GIB,
        getattr(memory, "temp_size_in_bytes", 0) / _GIB,
    )


def peak_flops(device_kind: str) -> float | None:
    """Returns FLOP/s of a device in bfloat16; None for a kind that is not in the table.

    Of several names in `device_kind` the longest counts: "NVIDIA H100 PCIe" is not an SXM card.
    """
    names = [n for n in PEAK_TFLOPS if re.search(rf"(?<!\w){re.escape(n)}(?!\w)", device_kind, re.IGNORECASE)]
    return PEAK_TFLOPS[max(names, key=len)] * 1e12 if names else None


def device_memory() -> dict[str, float]:
    """Returns GiB in use, and the most used so far, on this process's first device; {} where it does not tell."""
    stats = jax.local_devices()[0].memory_stats() or {}
    names = {"device_memory_gib": "bytes_in_use", "device_memory_peak_gib": "peak_bytes_in_use"}
    return {name: stats[key] / _GIB for name, key in names.items() if key in stats}
