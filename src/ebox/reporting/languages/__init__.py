"""Every word of the report that a reader sees, one file a language.

Owns sentences and names. Facts on disk hold codes and numbers; here they become words.
"""
