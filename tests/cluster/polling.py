"""Snakemake that asks SLURM every second: else it waits longer and longer, which no setting turns off."""

import sys

from snakemake.cli import main
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

RemoteExecutor.next_seconds_between_status_checks = property(lambda self: 1.0, lambda self, seconds: None)
sys.exit(main())
