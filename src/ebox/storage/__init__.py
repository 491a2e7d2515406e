"""Files and folders that ebox writes: whole or not at all, with a stamp of format and version.

Owns the names in a run folder and the way things are published. Knows nothing of what they mean.
"""
