"""What every wing stands on and nothing of the field: files and errors, memory, devices and processes, plain sums."""
