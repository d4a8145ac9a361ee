"""The built-in corpus: parametric heads rendered in JAX that speak synthesised speech, with exact labels."""
