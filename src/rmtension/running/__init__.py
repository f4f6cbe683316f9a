"""What runs a study: jobs and runs, records of where results came from, and what a study would take."""
