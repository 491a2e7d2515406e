"""Devices on a mesh, and what passes between them.

Owns the choice of devices, the two-level axis `data`, sums over it, the exchange of gradients in its exact and
compressed forms, and what the processes of a group tell each other on the host. Knows no network and no loop.
"""
