"""The colours of figures and of the report page."""

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F")
"""Okabe and Ito's palette, which the colour-blind can tell apart, without its yellow: too pale on white."""
