"""What the commands share: output, options, tables, times."""
