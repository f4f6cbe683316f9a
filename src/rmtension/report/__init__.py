"""What is looked at: figures and the report."""
