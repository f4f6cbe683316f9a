"""The other ways to compute the same, each as its users do it."""
