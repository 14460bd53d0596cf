"""Made-up lines in the shape that well-known programs write, with their fields."""

from __future__ import annotations

from ops.pico.families.alternatives import ALTERNATIVES
from ops.pico.families.dpkg import DPKG
from ops.pico.families.family import Family, Written
from ops.pico.families.git import GIT
from ops.pico.families.nginx import NGINX
from ops.pico.families.postgres import POSTGRES
from ops.pico.families.python import PYTHON
from ops.pico.families.syslog import SYSLOG
from ops.pico.families.uvicorn import UVICORN

KNOWN: tuple[Family, ...] = (
    DPKG, ALTERNATIVES, NGINX, UVICORN, SYSLOG, POSTGRES, PYTHON, GIT
)  # fmt: skip

__all__ = ["KNOWN", "Family", "Written"]
