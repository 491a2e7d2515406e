"""The command line: makes commands from verbs, shows progress, and ends with the exit codes.

Owns what the terminal shows. Computes nothing: a command calls one verb and prints its description of the result.
"""

from ebox.cli.app import main

__all__ = ["main"]
