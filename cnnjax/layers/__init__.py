"""Modules that several families share."""
