"""Tests of the work outside of requests."""
