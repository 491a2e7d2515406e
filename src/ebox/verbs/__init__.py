"""The verbs of ebox, one file each: the function for Python and the command line, and what it says of its result.

Owns early refusals and the chain of stages. A verb reads the folder that the verb before it published, and publishes
its own.
"""
