"""Where the pool of key/value blocks will stand; the engine computes every prompt until then."""
