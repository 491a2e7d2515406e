"""Train convolutional networks on DNA to find where a transcription factor binds."""

__version__ = "0.1.0"
