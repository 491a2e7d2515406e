"""Metrics with intervals, baselines, and the protocol that turns logits into evaluation.json.

Owns the definition of every accuracy that ebox reports, the bootstrap of its interval, the threshold, which is chosen
on validation data, and the baselines of a network: best PWM hit, GC logistic, k-mer logistic. docs/evaluation.md
specifies what is measured.
"""
