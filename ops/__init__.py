"""How a person runs it: console script, doctor, demo, benchmarks, docs and what CI checks."""
