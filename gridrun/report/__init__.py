"""The report page: tables, curves, timeline, failures and searches of a store in one HTML file.

    data      what the page shows, as plain JSON        from tables, trials, details, charts, searches
    blobs     what it reads on demand, compressed       curves, details
    page      template, styles, scripts and data in one file, with a policy that lets nothing else in
    serve     the same page from a running sweep

Python writes the options of Tabulator and ECharts as plain JSON; `assets/` fills in the rows that a reader
chooses. `vendor/` has the two libraries. Reads grids, the store, tables and figures. Must not know sweeps,
executors, torch, ray or the terminal.
"""
