"""The version of what the trainer computes."""

VERSION = 1
"""Part of every trial id. Raise it when a default changes, or what the code computes."""
