"""Tests of the engine, over the deterministic twin: no device, no LLM."""
