"""The main story over real HTTP: submit, call back, fold, explain."""

from __future__ import annotations

from tests.http import Api


async def test_a_job_that_reports_every_epoch_and_success_has_succeeded(api: Api) -> None:
    job = await api.create_job(epochs=2)
    assert job["status"] == "pending"

    for epoch in (1, 2):
        body = {"epoch": epoch, "epochs": 2, "metrics": {"loss": 1 / epoch}, "seq": epoch}
        beat = await api.call_back(job, "heartbeat", body)
        assert (beat.status, beat.json["status"]) == (200, "running")
    done = await api.call_back(job, "done", {"status": "succeeded", "mlflow_run_id": "r1"})

    assert done.json["status"] == "succeeded"
    story = (await api.get(f"/v1/jobs/{job['id']}/timeline")).json
    assert [epoch["epoch"] for epoch in story["attempts"][0]["epochs"]] == [1, 2]
    why = (await api.get(f"/v1/jobs/{job['id']}/explain")).json
    assert [item["type"] for item in why["because"]] == ["done", "succeeded"]
