"""Questions about the loaded rows, read only and without a key.

The exception is ``exposure``, which makes keys of its own to show what masking reveals.
"""
