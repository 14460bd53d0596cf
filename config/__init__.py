"""The knobs: settings, prices, LLM aliases and telemetry definitions."""
