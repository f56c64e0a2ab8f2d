"""Read the schedules of other tools, and print them as Python. One module per tool."""
