"""From records to tables: `build` and `notes` make a table as data, `render` and `latex` make it text.

`readme` keeps the tables in a Markdown file up to date, and `why` traces a row back to its trials.
Knows grids and the store. Must not know figures, sweeps, executors, torch, ray or the terminal.
"""
