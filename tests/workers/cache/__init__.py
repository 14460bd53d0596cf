"""Tests of the cache, in plain Python: no device, no LLM."""
