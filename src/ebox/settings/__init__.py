"""Every setting: its field, its help, its flag, and how settings are read and written.

Owns what can be set and what belongs to the identity of a run. A field says all of it once.
"""
