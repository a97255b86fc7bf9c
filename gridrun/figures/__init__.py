"""From records to figures: `build` describes a figure as numbers and words, `draw` writes it to a file.

Knows grids, the store and tables. Must not know sweeps, executors, torch, ray or the terminal.
"""
