"""What this machine has and does: findings, preflight, parity of 1 and N workers, growth, bench.

Owns what is measured on this machine. It may use planning, which is for other machines; callers pass it what starts a
training, so that it does not depend on the command line.
"""
