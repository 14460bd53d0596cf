"""Bodies of requests and answers, as clients see them."""
