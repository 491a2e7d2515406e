"""Training: example order, batches, the compiled step, the loop, checkpoints and the model of a run.

Owns what stands in which step, and checkpoints. Reads an opened dataset, gets its devices from `mesh`, and is told how
to measure a network and how to start a worker by whoever calls it, so that it needs no `evaluation` and no `verbs`.
"""
