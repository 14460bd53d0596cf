"""One suite for each boundary, run over all that implement it."""
