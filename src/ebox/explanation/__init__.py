"""What a network has learned: contributions, motifs, grammar, and how reliable they are.

Owns explanation.json and filters.json. docs/explanation.md specifies what is computed. The functions exported here work
on NumPy arrays and need no device.
"""
