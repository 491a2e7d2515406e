"""Planning: what a machine that is not here would do with a training, before anyone pays for it.

Owns the facts about accelerators, topologies by name, the ahead-of-time compilation of the real train step in a
separate process, the reading of compiled programs, the model of how step time grows with the workers, the prediction
of steps on measured and absent machines, the tables of prices, what work costs by them, the options of a plan and the
choice among them, and files that run an option elsewhere.
"""
