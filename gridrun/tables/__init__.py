"""From records to tables as text: medians, published values, notes, Markdown, LaTeX, CSV.

Knows grids and the store. Must not know figures, sweeps, executors, torch, ray or the terminal.
"""
