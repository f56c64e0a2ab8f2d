"""Create runs and schedules in a transaction of the application, on its own connection."""
