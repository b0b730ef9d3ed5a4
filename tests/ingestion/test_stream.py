"""NDJSON streams and gzip: any length, in constant memory, counted as far as they came."""

import gzip
import json
import tracemalloc
import zlib
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

import pytest
from django.db import OperationalError
from django.test import Client

from fleet.access.authorization import EVERYTHING
from fleet.access.issuing import make_key
from fleet.access.keyring import Grant
from fleet.http.body import BLOCK_BYTES, BodyCutShort
from fleet.models import Scope
from fleet.stores.batching import Overloaded
from ingestion import stream
from ingestion.models import MeterReading, VehicleReading
from ingestion.readings import MAX_LINE_BYTES, Decoded, DeviceKind
from ingestion.stream import StreamInterrupted, take_in_stream

NDJSON = "application/x-ndjson"
METER = {"meterId": "M1", "kwhConsumedAc": 25.5}
VEHICLE = {"vehicleId": "V1", "kwhDeliveredDc": 21.5}
BAD = VEHICLE | {"soc": 101}


def lines(*items: object) -> bytes:
    return b"".join(json.dumps(item).encode() + b"\n" for item in items)


def post(api, body: bytes, path: str = "/v1/ingest/vehicle", media: str = NDJSON, **headers: str):
    return api._client.generic("POST", path, body, media, headers=headers)


def test_lines_are_stored_and_answered_with_201(api):
    answer = post(api, lines(*[VEHICLE] * 3))

    assert (answer.status_code, answer.json()["accepted"]) == (201, 3)
    assert VehicleReading.objects.count() == 3


def test_mixed_stream_stores_both_kinds(api):
    assert post(api, lines(METER, VEHICLE), "/v1/ingest").json()["accepted"] == 2
    assert MeterReading.objects.count() == VehicleReading.objects.count() == 1


@pytest.mark.parametrize("path", ["/v1/ingest", "/v1/ingest/vehicle", "/v1/ingest/vehicle/batch"])
def test_last_line_needs_no_newline_and_blank_lines_are_none(api, path):
    body = b"\n" + lines(VEHICLE) + b"\r\n  \n" + lines(VEHICLE).rstrip()

    assert post(api, body, path).json() == {"accepted": 2, "rejected": 0, "errors": []}


def test_bad_lines_are_named_by_their_number_and_the_good_ones_stored(api, settings):
    settings.INGEST_STREAM_CHUNK_READINGS = 1
    body = lines(VEHICLE) + b"{\n\n" + lines(VEHICLE, BAD)

    answer = post(api, body)

    assert (answer.status_code, answer.json()["accepted"]) == (200, 2)
    errors = [(e["index"], e["field"], e["code"]) for e in answer.json()["errors"]]
    assert errors == [(1, None, "malformed_json"), (4, "soc", "out_of_range")]


def test_numbers_of_bad_lines_go_on_from_chunk_to_chunk(db, clock, settings):
    settings.INGEST_STREAM_CHUNK_READINGS = 2
    blocks = [lines(VEHICLE, BAD), lines(VEHICLE, VEHICLE), lines(BAD)]

    outcome = take_in_stream(blocks, EVERYTHING, DeviceKind.VEHICLE)

    assert [error.index for error in outcome.errors] == [1, 4]
    assert (outcome.accepted, outcome.rejected) == (3, 2)


def test_at_most_100_errors_are_listed(db, clock, settings):
    settings.INGEST_STREAM_CHUNK_READINGS = 30
    outcome = take_in_stream([lines(*[BAD] * 30)] * 5, EVERYTHING, DeviceKind.VEHICLE)

    assert outcome.rejected == 150
    assert len(outcome.errors) == 100


def test_lines_may_be_cut_anywhere_between_blocks(db, clock):
    body = lines(*[VEHICLE] * 5)

    outcome = take_in_stream(
        [body[i : i + 7] for i in range(0, len(body), 7)], EVERYTHING, DeviceKind.VEHICLE
    )

    assert (outcome.accepted, outcome.rejected) == (5, 0)


@pytest.mark.parametrize("body", [b"\n", b" \n\n"])
def test_stream_without_a_reading_is_refused(api, body):
    answer = post(api, body)

    assert (answer.status_code, answer.json()["message"]) == (
        400,
        "The stream is empty; send at least one reading",
    )


def test_stream_of_bad_lines_only_is_400(api):
    assert post(api, lines(BAD, BAD)).json()["rejected"] == 2


def test_atomic_is_refused_for_a_stream(api):
    answer = post(api, lines(VEHICLE), "/v1/ingest/vehicle?atomic=true")

    assert answer.status_code == 400
    assert not VehicleReading.objects.exists()


@pytest.mark.parametrize("media", [NDJSON, "application/json"])
def test_gzip_is_taken_for_both_types(api, media):
    body = gzip.compress(lines(VEHICLE))

    assert post(api, body, media=media, **{"Content-Encoding": "gzip"}).status_code == 201


def test_one_gzip_after_another_is_one_body(api):
    body = gzip.compress(lines(VEHICLE)) + gzip.compress(lines(VEHICLE))

    assert post(api, body, **{"Content-Encoding": "gzip"}).json()["accepted"] == 2


@pytest.mark.parametrize("media", [NDJSON, "application/json"])
@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"not gzip at all", "broken_gzip"),
        (gzip.compress(b" " * 1000)[:-20], "cut_short"),
        (gzip.compress(b" ")[:-4] + b"xxxx", "broken_gzip"),
        (zlib.compress(b" "), "broken_gzip"),
    ],
    ids=["no gzip", "cut", "wrong length", "zlib"],
)
def test_body_that_is_not_the_gzip_it_claims_to_be_is_400(api, media, body, code):
    answer = post(api, body, media=media, **{"Content-Encoding": "gzip"})

    assert (answer.status_code, answer.json()["code"]) == (400, code)


def test_gzip_within_gzip_is_no_json(api):
    body = gzip.compress(gzip.compress(lines(VEHICLE)))
    answer = post(api, body, media="application/json", **{"Content-Encoding": "gzip"})

    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_json")


def bomb(content: bytes, times: int) -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    return b"".join(packer.compress(content) for _ in range(times)) + packer.flush()


@pytest.mark.parametrize("media", [NDJSON, "application/json"])
def test_bomb_is_413_before_it_takes_memory(api, media):
    body = bomb(b" " * 1024 * 1024, 200)
    tracemalloc.start()
    answer = post(api, body, media=media, **{"Content-Encoding": "gzip"})
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert answer.status_code == 413
    assert peak_bytes < 40 * 1024 * 1024


def test_stream_that_meets_overload_is_503(api, monkeypatch):
    def overloaded(*_: object, grant: Grant) -> None:
        raise Overloaded

    monkeypatch.setattr(stream, "record_known", overloaded)
    answer = post(api, lines(VEHICLE))

    assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
    assert answer["Retry-After"] == "1"


def test_long_lines_are_committed_before_they_take_memory(db, clock, monkeypatch):
    chunks: list[int] = []
    monkeypatch.setattr(
        stream, "record_known", lambda decoded, _, grant: chunks.append(len(decoded.readings))
    )
    block = lines(VEHICLE | {"note": "x" * 60_000})

    take_in_stream([block] * 200, EVERYTHING, DeviceKind.VEHICLE)

    assert len(chunks) > 1
    assert sum(chunks) == 200


def test_line_that_is_too_long_ends_the_stream_after_what_came_before(api):
    body = lines(VEHICLE) + b'{"x":"' + b"a" * (MAX_LINE_BYTES + BLOCK_BYTES)

    answer = post(api, body)

    assert answer.status_code == 413
    assert answer.json()["accepted"] == 1
    assert "65,536 bytes" in answer.json()["message"]
    assert VehicleReading.objects.count() == 1


@pytest.mark.parametrize("lines_before", [0, 1, 20])
@pytest.mark.parametrize("lines_after", [0, 1])
def test_line_may_be_64_kib_long_and_not_a_byte_longer(api, lines_before, lines_after):
    before, after = lines(*[VEHICLE] * lines_before), b"\n" + lines(*[VEHICLE] * lines_after)
    longest = lines(VEHICLE | {"note": ""}).rstrip()
    longest = longest[:-2] + b"x" * (65_536 - len(longest)) + longest[-2:]
    assert len(longest) == 65_536

    taken = post(api, before + longest + after)
    refused = post(api, before + longest + b" " + after)

    assert (taken.status_code, taken.json()["rejected"]) == (201, 0)
    assert (refused.status_code, refused.json()["code"]) == (413, "too_large")
    assert refused.json()["accepted"] == lines_before


def test_client_that_breaks_off_gets_counted_what_was_stored(db, clock, settings):
    settings.INGEST_STREAM_CHUNK_READINGS = 2

    def broken_off() -> Iterator[bytes]:
        yield lines(VEHICLE, VEHICLE)
        yield lines(VEHICLE) + b'{"vehicleId": "V1", "kwhDel'
        raise BodyCutShort

    with pytest.raises(StreamInterrupted) as interrupted:
        take_in_stream(broken_off(), EVERYTHING, DeviceKind.VEHICLE)

    assert (interrupted.value.outcome.accepted, interrupted.value.lines) == (3, 3)
    assert VehicleReading.objects.count() == 3


def test_database_that_goes_away_mid_stream_is_503_and_says_what_was_stored(
    api, settings, monkeypatch
):
    settings.INGEST_STREAM_CHUNK_READINGS = 1
    record_known, chunks = stream.record_known, []

    def fails_at_the_second(*arguments: object, grant: Grant) -> None:
        chunks.append(arguments)
        if len(chunks) == 2:
            raise OperationalError("gone")
        record_known(*arguments, grant=grant)

    monkeypatch.setattr(stream, "record_known", fails_at_the_second)
    padding = b" " * BLOCK_BYTES + b"\n"
    answer = post(api, lines(VEHICLE) + padding + lines(VEHICLE) + padding)

    assert answer.status_code == 503
    assert answer["Retry-After"]
    assert (answer.json()["accepted"], answer.json()["lines"]) == (1, 1)
    assert answer.json()["message"].endswith("Lines processed so far: 1; send the lines after them")


def test_memory_does_not_grow_with_the_stream(db, clock, monkeypatch):
    monkeypatch.setattr(stream, "record_known", lambda *_, grant: None)
    block = lines(*[VEHICLE] * 500)

    def peak_of(blocks: Iterable[bytes]) -> int:
        tracemalloc.start()
        take_in_stream(blocks, EVERYTHING, DeviceKind.VEHICLE)
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return peak_bytes

    short, long = peak_of(block for _ in range(20)), peak_of(block for _ in range(200))

    assert long < short * 1.2


@pytest.mark.django_db(transaction=True)
def test_large_chunks_are_written_in_lanes_and_counted_together(clock, settings):
    settings.INGEST_STREAM_CHUNK_READINGS = 500
    body = lines(*[VEHICLE | {"vehicleId": f"V{number}"} for number in range(1_200)], BAD)

    outcome = take_in_stream([body], EVERYTHING, DeviceKind.VEHICLE)

    assert (outcome.accepted, outcome.rejected) == (1_200, 1)
    assert outcome.errors[0].index == 1_200
    assert VehicleReading.objects.count() == 1_200


@pytest.mark.django_db(transaction=True)
def test_what_one_lane_stored_counts_when_the_other_fails(clock, monkeypatch):
    record_known = stream.record_known

    def fails_for_v1(decoded: Decoded, received_at: datetime, grant: Grant) -> None:
        if any(reading.vehicle_id == "V1" for reading in decoded.readings):
            raise OperationalError("gone")
        record_known(decoded, received_at, grant=grant)

    monkeypatch.setattr(stream, "record_known", fails_for_v1)
    body = lines(*[VEHICLE | {"vehicleId": f"V{number}"} for number in range(1_000)])

    with pytest.raises(StreamInterrupted) as interrupted:
        take_in_stream([body], EVERYTHING, DeviceKind.VEHICLE)

    assert 0 < interrupted.value.outcome.accepted < 1_000
    assert interrupted.value.lines == 0
    assert VehicleReading.objects.count() == interrupted.value.outcome.accepted


class TestStreamOfMoreThanAMinutesReadings:
    LINES = tuple(
        VEHICLE | {"vehicleId": f"V{number % 7}", "timestamp": f"2026-07-15T11:{number:02}:00Z"}
        for number in range(30)
    )

    @pytest.fixture
    def send(self, closed, settings, clock):
        settings.LIMIT_READINGS_PER_KEY = 12
        headers = {"host": "localhost", "authorization": f"Bearer {caller_token()}"}
        client = Client(headers=headers, raise_request_exception=False)

        def sent(body: bytes, media: str = NDJSON):
            return client.generic("POST", "/v1/ingest", body, media)

        return sent

    def test_ends_after_as_many_minutes_when_it_goes_on_where_it_was_told(self, send, clock):
        rest, answers = self.LINES, []
        while rest and len(answers) < 9:
            answer = send(lines(*rest))
            answers.append((answer.status_code, answer.json()["accepted"]))
            rest = rest[answer.json()["lines"] :] if answer.status_code == 429 else ()
            clock.shift(timedelta(seconds=int(answer.get("Retry-After", 0))))

        assert answers == [(429, 12), (429, 12), (201, 6)]
        assert VehicleReading.objects.count() == 30
        assert set(VehicleReading.objects.values_list("measured_at", flat=True)) == {
            datetime.fromisoformat(line["timestamp"]) for line in self.LINES
        }

    def test_counts_bad_lines_and_skips_blank_ones(self, send):
        items = [VEHICLE | {"soc": 101}] * 3 + [*self.LINES]

        answer = send(b"\n\n" + lines(*items))

        body = answer.json()
        assert (answer.status_code, body["accepted"], body["rejected"]) == (429, 9, 3)
        assert body["lines"] == 2 + 12
        assert body["message"] == (
            "Limit of 12 readings per minute reached; see Retry-After. "
            "Lines processed so far: 14; send the lines after them"
        )

    def test_with_nothing_left_stores_nothing(self, send):
        send(lines(*self.LINES))

        body = send(lines(*self.LINES)).json()

        assert (body["accepted"], body["lines"]) == (0, 0)
        assert body["message"] == "Limit of 12 readings per minute reached; see Retry-After"

    def test_as_an_array_is_413_in_every_minute_and_says_why(self, send, clock):
        for _ in range(2):
            answer = send(json.dumps(self.LINES[:13]).encode(), "application/json")
            assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
            assert answer.json()["message"] == (
                "This key may send at most 12 readings per minute (LIMIT_READINGS_PER_KEY); send "
                "smaller batches"
            )
            clock.shift(timedelta(minutes=1))
        assert send(json.dumps(self.LINES[:12]).encode(), "application/json").status_code == 201


@pytest.mark.django_db(transaction=True)
def test_chunk_of_a_stream_that_is_written_in_lanes_is_cut_at_the_limit_too(
    closed, settings, clock
):
    settings.LIMIT_READINGS_PER_KEY = 1_000
    headers = {"host": "localhost", "authorization": f"Bearer {caller_token()}"}
    items = [VEHICLE | {"vehicleId": f"V{number}"} for number in range(3_000)]

    answer = Client(headers=headers).generic("POST", "/v1/ingest", lines(*items), NDJSON)

    assert (answer.status_code, answer.json()["accepted"], answer.json()["lines"]) == (
        *(429, 1_000, 1_000),
    )
    assert VehicleReading.objects.count() == 1_000


def caller_token() -> str:
    return make_key("gateway", [Scope.INGEST]).token
