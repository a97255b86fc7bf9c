"""Executors: the seam between a sweep and what runs its trials."""
