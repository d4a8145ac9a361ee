"""Parameters in and out of safetensors files."""
