"""``mlx_lm.server`` as it is, but for the number of connections that may wait to be accepted.

``python -m workers.backends.peer`` takes its options. It lets five wait, and the system drops
what comes beyond: with dozens of clients at once, connections are lost for seconds or for good.
That says nothing of the engine behind it, so it is not measured.
"""

from __future__ import annotations

from http.server import ThreadingHTTPServer

from mlx_lm.server import main

BACKLOG = 128

if __name__ == "__main__":
    ThreadingHTTPServer.request_queue_size = BACKLOG
    main()  # type: ignore[no-untyped-call]  # mlx-lm does not annotate it
