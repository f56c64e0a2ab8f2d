"""``python -m polos``: the command line, as ``polos`` starts it."""

from polos.cli import main

if __name__ == "__main__":
    main()
