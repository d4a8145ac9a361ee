"""One file for each stage: its parameters, loss, data and validation."""
