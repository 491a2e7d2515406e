"""The sections of the report, one file each.

Owns which facts of a run a section shows and how they are drawn.
"""
