"""Data sets: small ones as uint8 arrays in memory, order and augmentation as pure functions."""
