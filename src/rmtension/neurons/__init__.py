"""Neurons ranked by a scoring, and sets of them under a name."""
