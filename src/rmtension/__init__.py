"""How helpfulness and harmlessness pull against each other inside a reward model."""

__version__ = "0.1.0"
