"""The verbs of ebox, one file each: the function for Python and the command line, and the description of its result.

Owns early checks and the chain of stages. A verb reads the folder that the verb before it published, and publishes its
own.
"""
