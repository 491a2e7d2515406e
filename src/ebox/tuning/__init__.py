"""Several trainings as one piece of work: the search for better settings, populations, and ensembles.

Owns the space of settings, the rungs of successive halving, the journal of trials and what is said of them; members of
one shape as a population, and ensembles of them. It chooses on the validation split alone, and leaves the making of a
single step to `training`.
"""
