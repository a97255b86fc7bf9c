"""Grids and their results as one file, for another lab to check: `gridrun export`, `gridrun verify`.

The file is a zip archive of JSON and of the grid files as they are:

    gridrun.json        what it is, seed counts of `seeds: auto`, and the SHA-256 of every other file
    grids/...           the grid files, and all files that they include or name
    records.jsonl       one line for each ended trial: its record with its epochs, as in `.work/ended/`
    notes.jsonl         users' notes on these trials
    tables.json         the tables, as these records give them
    tables.md           the same for readers
    environment.json    Python and packages of whoever exported; each record has those of its own training

`container` writes and reads such files and trusts none; `export` fills one, `verify` checks one. This room
must not know sweeps, Ray or the terminal: a command trains rows again, and `verify` compares them.
"""
