"""The report of a run: one HTML page for biologists and those who pay for the work, and the same facts as JSON.

Owns the words, the figures and the page. Reads only the files of a run folder; computes no metric. The page holds its
style sheet and drawings, needs no script and no network, and can be printed.
"""
