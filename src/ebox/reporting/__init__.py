"""The report of a run: one HTML page for the biologist and whoever pays for it, and the same facts as JSON.

Owns the words, the figures and the page. Reads the files of a run folder and nothing else; computes no
metric. The page
holds its style sheet and drawings, needs no script and no network, and prints.
"""

from ebox.reporting.report import render_report, write_report

__all__ = ["render_report", "write_report"]
