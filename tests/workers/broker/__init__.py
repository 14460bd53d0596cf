"""Tests of the brokers, each by what only it does."""
