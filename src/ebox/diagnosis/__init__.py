"""What this machine has and does: findings, preflight of a training, parity of 1 and N workers, growth.

Owns what is measured here and now. Planning, for machines that are not here, stands below it; it is handed what starts
a training, so that it needs nothing of the command line.
"""
