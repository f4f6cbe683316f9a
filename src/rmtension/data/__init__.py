"""Comparisons: read from files, the hub or a generator, cleaned, and given their tasks."""
