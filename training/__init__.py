"""Training and export: one thin module per stage, ``python -m training.<stage>``, over plain functions."""
