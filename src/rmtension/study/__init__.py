"""The study file: its types, the names of what it makes, and the files that it names."""
