"""The gates of the reference: which answer to believe, written out from their equations in 64-bit floats."""
