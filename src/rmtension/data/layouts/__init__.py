"""How the rows of each published benchmark look upstream, a module for each."""
