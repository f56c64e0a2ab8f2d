"""One module for each command of `polos`."""
