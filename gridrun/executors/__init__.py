"""Where trials run: one after another in this process (`serial`), or side by side on Ray (`ray`).

Knows sweeps. Must not know tables, figures or the terminal.
"""
