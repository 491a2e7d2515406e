"""The command line: makes commands out of verbs, shows progress, and ends with the exit codes.

Owns what the terminal shows. Computes nothing: a command calls one verb and prints what the verb says of its result.
"""

from ebox.cli.app import main

__all__ = ["main"]
