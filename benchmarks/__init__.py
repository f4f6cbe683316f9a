"""Measurements that are no tests: how fast this is beside other ways, and how near the machine's limit."""
