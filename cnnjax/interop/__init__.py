"""Weights in and out: what other libraries call a parameter, and how they lay it out."""
