"""Flags of XLA with which a program of a test compiles in a quarter of the time. It runs three times slower: tests that
run the shipped model, whose programs are large, start processes without them."""

import importlib.metadata

# XLA ends a process for a flag that it does not know, so newer releases go without.
_KNOWN = importlib.metadata.version("jaxlib").startswith(("0.10.", "0.11."))
QUICK_FLAGS = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false" if _KNOWN else ""
