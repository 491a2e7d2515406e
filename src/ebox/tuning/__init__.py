"""Several trainings as one piece of work: members of one shape as a population, and ensembles of them.

It chooses on validation data alone, and leaves the making of a single step to `training`.
"""
