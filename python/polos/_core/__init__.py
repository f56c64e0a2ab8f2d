"""What stands between the Python package and the Rust core."""
