"""Charts, sequence logos, and numbers as text.

Owns how things look: SVG text and PNG from plain values. Knows no run, no network and no language.
"""
