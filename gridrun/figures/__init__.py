"""Figures of stored runs: `select` picks them, `build` makes numbers and labels, `draw` writes files.

Knows grids, the store and tables. Must not know sweeps, executors, torch, ray or the terminal.
"""
