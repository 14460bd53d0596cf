"""Real processes that are killed, frozen and cut off, and the books that must balance after it."""
