"""Errors, registry, configuration, random streams, files: no jax at import."""
