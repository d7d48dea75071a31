"""Figures that no mean over examples gives: average precision, the confusion of pixels."""
