"""What runs the rows: environments, rounds, the probe of the disk, the report. Standard library."""
