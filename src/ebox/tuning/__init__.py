"""The search for better settings: which there are, which are tried, and for how long each.

Owns the space of settings, the rungs of successive halving, the journal of trials, and what is said of them. Reads the
validation split alone.
"""
