"""Every setting: its field, its help, its flag, and how settings are read and written.

Owns what can be set and what belongs to the identity of a run. Everything about a setting is in its field.
"""
