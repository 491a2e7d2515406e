"""Processes that train together: how they are started, watched, and started again.

Owns the contract between a worker and its supervisor (variables, exit codes, the pipe), local processes and Ray.
Loads without JAX.
"""
