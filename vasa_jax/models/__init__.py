"""Networks only: Flax Linen modules, pure functions of (parameters, inputs)."""
