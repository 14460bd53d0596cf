"""The work: everything that runs outside a request."""
