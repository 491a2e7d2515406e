"""The version of ebox, said once."""

__version__ = "0.1.0"
