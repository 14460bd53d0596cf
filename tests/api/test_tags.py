"""Entity tags of what is waited for."""

from __future__ import annotations

from starlette.testclient import TestClient

from tests.api.conftest import FakeWorker


def test_unchanged_after_a_wait_is_304(client: TestClient, worker: FakeWorker) -> None:
    """A wait may bring a tag along: no body while nothing changed, else the new one; bulks likewise."""
    bulk = client.post("/v1/bulk", json={"jobs": [{"prompt": "a"}]}).json()
    job_id = client.get("/v1/jobs").json()["data"][0]["id"]
    for place in (f"/v1/jobs/{job_id}", f"/v1/bulk/{bulk['id']}"):
        tag = client.get(place).headers["etag"]
        same = client.get(place, params={"wait": 0.05}, headers={"If-None-Match": tag})
        assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag)
        other = client.get(place, headers={"If-None-Match": '"else"'})
        assert (other.status_code, other.headers["etag"]) == (200, tag)
    tag = client.get(f"/v1/bulk/{bulk['id']}").headers["etag"]
    worker.run_all()
    changed = client.get(f"/v1/bulk/{bulk['id']}", headers={"If-None-Match": tag})
    assert (changed.status_code, changed.json()["ended"]) == (200, True)
