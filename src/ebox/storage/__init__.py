"""Files and folders that ebox writes: whole or not at all, with a stamp of format and version.

Owns the names in a run folder and the way files are published. Does not know what they mean.
"""
