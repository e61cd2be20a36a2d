"""The storage settings of docker-compose.yml, on a real service and a real S3 server."""

from __future__ import annotations

from pathlib import Path

from service.object_store import AccessKeys
from service.s3_server import s3_server
from tests.compose import SERVICES
from tests.processes import ServiceProcess
from trainer.bearer import Bearer
from trainer.configuration import read_configuration
from trainer.storage import open_storage

SERVICE = SERVICES["service"]["environment"]
ABOUT_STORAGE = ("EPOCHLOG_EXECUTOR", "EPOCHLOG_STORAGE_", "EPOCHLOG_BUCKET", "AWS_")


def test_a_trainer_there_stores_with_what_the_service_signs(tmp_path: Path) -> None:
    bucket = tmp_path / "training"
    bucket.mkdir()
    keys = AccessKeys(SERVICE["AWS_ACCESS_KEY_ID"], SERVICE["AWS_SECRET_ACCESS_KEY"])
    given = {name: value for name, value in SERVICE.items() if name.startswith(ABOUT_STORAGE)}
    named = {SERVICE["EPOCHLOG_BUCKET"]: bucket}
    best = tmp_path / "best.pt"
    best.write_bytes(b"weights")
    with (
        s3_server(named, log=tmp_path / "s3.log", keys=keys) as server,
        ServiceProcess(**given, EPOCHLOG_S3_ENDPOINT=server.url) as service,
    ):
        service.start()
        fields = {"dataset_id": "shapes", "model_name": "m", "epochs": 1}
        job = service.call("POST", "/v1/jobs", fields)
        ours = {
            "JOB_ID": str(job["id"]),
            "TRACE_ID": job["trace_id"],
            "CALLBACK_TOKEN": job["callback_token"],
            "BACKEND_BASE_URL": service.url,
        }
        trainer = read_configuration(SERVICES["trainer"]["environment"] | ours)
        url = f"{service.url}/v1/jobs/{job['id']}"
        storage = open_storage(trainer, url, Bearer(url, trainer.token, lambda _newer: None))

        stored = storage.store(best, f"checkpoints/job-{job['id']}/best.pt")

        assert stored.uri == f"s3://training/checkpoints/job-{job['id']}/best.pt"
        storage.fetch_uri(stored.uri, tmp_path / "fetched", sha256=stored.sha256)
    assert (tmp_path / "fetched").read_bytes() == b"weights"
    assert (bucket / "checkpoints" / f"job-{job['id']}" / "best.pt").read_bytes() == b"weights"
