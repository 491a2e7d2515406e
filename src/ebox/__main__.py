"""`python -m ebox` is the command line."""

from ebox.cli import main

if __name__ == "__main__":
    main()
