"""The convolutional networks: layers, architectures, and how settings become a network.

Owns the mathematics from one-hot bases `(batch, length, 4)` to logits `(batch, track)`.
Knows nothing about devices, data folders or optimisers: a network is a pytree, a pass over it a pure function.
"""
