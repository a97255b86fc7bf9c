"""Trials side by side on Ray: on this machine, or on a cluster. The only package that imports ray.

Ray Tune places trials and reuses warm workers, through its public interface alone. It keeps nothing: the
results directory says what is left to do. Must not know tables, figures or the terminal.
"""
