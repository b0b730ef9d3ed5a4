"""The archive in an S3-compatible bucket: rclone's server, over a socket."""

import socket
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet
import pytest
from django.core.management import CommandError, call_command

from fleet.stores.stopping import Stopped
from ingestion.history import archive
from ingestion.history.retention import apply as retiring
from ingestion.history.retention.plan import plan
from ingestion.models import ArchivedPartition
from tests.conftest import stopped_after
from tests.ingestion.history.test_retention import (
    APRIL,
    JUNE,
    TABLES,
    apply,
    attached,
    bring_back,
    figure,
    stored,
)
from tests.ingestion.history.test_retention import folder as folder
from tests.ingestion.history.test_retention import history as history

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("clock")]

DEADLINE_SECONDS = 20


class Bucket:
    """A bucket of the name `archive`, whose objects are the files of a folder."""

    def __init__(self, root: Path, log: Path) -> None:
        self.folder = root / "archive" / "engine"
        self.folder.parent.mkdir(parents=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        rclone = Path(sys.executable).parent / "rclone"
        options = [f"--addr=127.0.0.1:{self.port}", "--auth-key=engine,secret", f"--log-file={log}"]
        self._server = subprocess.Popen([rclone, "serve", "s3", *options, root])
        self.url = f"s3://archive/engine?scheme=http&endpoint_override=127.0.0.1:{self.port}"

    def wait(self) -> None:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not self._listens():
            assert time.monotonic() < deadline, "rclone does not listen"
            time.sleep(0.02)

    def _listens(self) -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self.port)) == 0

    def close(self) -> None:
        self._server.terminate()
        self._server.wait()


@pytest.fixture
def bucket(folder, tmp_path, settings, monkeypatch) -> Bucket:
    bucket = Bucket(tmp_path / "served", tmp_path / "rclone.log")
    settings.ARCHIVE_URL = bucket.url
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "engine"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_REGION", "eu-central-1"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
        ("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required"),
    ):
        monkeypatch.setenv(name, value)
    bucket.wait()
    yield bucket
    bucket.close()


def test_history_goes_into_a_bucket_and_comes_back(history, bucket, api):
    window = APRIL, JUNE
    before = figure(api, *window), stored()
    apply()

    names = sorted(ArchivedPartition.objects.values_list("file", flat=True))
    assert (attached(), sorted(path.name for path in bucket.folder.iterdir())) == ([], names)
    bring_back(*(bucket.url.replace("?", f"/{name}?") for name in names))
    assert (figure(api, *window), stored()) == before


def test_bucket_that_is_away_keeps_history(history, bucket):
    bucket.close()

    with pytest.raises(CommandError, match="s3://archive/engine/"):
        apply()
    assert attached() == sorted(TABLES)


def test_bucket_that_refuses_the_key_keeps_history(history, bucket, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")

    with pytest.raises(CommandError, match=r"s3://archive/engine/.*: "):
        apply()
    assert attached() == sorted(TABLES)


def test_upload_that_broke_off_is_begun_anew(history, bucket):
    name = plan()[0].file
    bucket.folder.mkdir()
    (bucket.folder / name).write_bytes(b"PAR1, and not much more")
    apply()

    assert attached() == []
    assert pyarrow.parquet.read_metadata(bucket.folder / name).num_rows == 18


def test_upload_that_stopped_with_its_worker_is_begun_anew(history, bucket, monkeypatch):
    monkeypatch.setattr(retiring, "BATCH_ROWS", 5)
    with stopped_after(portions=4), pytest.raises(Stopped):
        retiring.apply(lambda step: lambda rows: None)

    apply()

    assert attached() == []
    assert pyarrow.parquet.read_metadata(next(bucket.folder.glob("*meter*04*"))).num_rows == 18


def test_passwords_in_the_url_are_shown_to_nobody():
    shown = archive.shown("s3://key:password@bucket/prefix/?endpoint_override=minio:9000")

    assert shown == "s3://bucket/prefix"


def test_file_that_is_not_in_the_bucket_is_named(bucket):
    with pytest.raises(CommandError, match=r"s3://archive/engine/none\.parquet: "):
        call_command("import_readings", "--archived", bucket.url.replace("?", "/none.parquet?"))
