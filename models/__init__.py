"""The nouns: one file each, with its table, its queries and its changes of state."""
