"""Bodies that are no JSON, or odd JSON, over a socket: refused whole, or item by item."""

import json

import pytest

from tests.engine.wire import (
    INGEST_ROUTES,
    NDJSON,
    Item,
    answer_to,
    assert_refused_alone,
    good_body,
    post,
    reading_for,
    stored,
    stored_since,
)

pytestmark = pytest.mark.xdist_group("bad input")

KINDS = ["meter", "vehicle"]
CUT = "not valid JSON: empty, incomplete, or half a surrogate pair"


def noted(kind: str, note: bytes) -> bytes:
    """Return a good reading with `note` in a field that is ignored."""
    return reading_for(kind)[:-1] + b', "note": ' + note + b"}"


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        pytest.param(spoil, reason, id=name)
        for name, spoil, reason in [
            ("truncated", lambda body: body[:-1], "empty, incomplete"),
            ("trailing data", lambda body: body + b" {}", "trailing characters"),
            ("trailing comma", lambda body: body + b",", "trailing characters"),
            ("two roots", lambda body: body + body, "trailing characters"),
            ("BOM", lambda body: b"\xef\xbb\xbf" + body, "invalid character"),
            ("UTF-16", lambda body: body.decode().encode("utf-16"), "invalid character"),
            ("UTF-16 without BOM", lambda body: body.decode().encode("utf-16-le"), "(byte "),
            ("UTF-32", lambda body: body.decode().encode("utf-32-le"), "(byte "),
            ("no JSON", lambda body: b"kwh=1.5&id=" + body, "invalid character"),
            ("XML", lambda body: b"<reading>" + body + b"</reading>", "invalid character"),
            ("NUL before it", lambda body: b"\0" + body, "invalid character"),
        ]
    ],
)
@pytest.mark.parametrize("path", INGEST_ROUTES)
def test_body_that_is_no_json_is_refused_whole(engine, path, spoil, reason):
    before = stored(engine)
    answer = answer_to(engine, post(path, spoil(good_body(path))))

    answer.is_error(400, "malformed_json", path)
    assert answer.body["message"].startswith("The body is not valid JSON: ")
    assert reason in answer.body["message"]
    assert answer.body["errors"] == []
    assert stored_since(engine, before) == []


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1_000", b"0x10", b"+1"])
@pytest.mark.parametrize("kind", KINDS)
def test_number_that_json_does_not_have_is_refused(engine, kind, number):
    raw = reading_for(kind).replace(b"1.5", number)
    before = stored(engine)

    alone = answer_to(engine, post(f"/v1/ingest/{kind}", raw))
    among = answer_to(engine, post("/v1/ingest", b"[%s, %s]" % (raw, reading_for(kind, "NAN-1"))))

    alone.is_error(400, "malformed_json", f"/v1/ingest/{kind}")
    assert number.decode() not in alone.body["message"]
    assert (among.status, among.body["accepted"]) == (200, 1)
    (error,) = among.body["errors"]
    assert (error["index"], error["field"], error["code"]) == (0, None, "malformed_json")
    assert {device for _, device in stored_since(engine, before)} <= {"NAN-1"}


@pytest.mark.parametrize(
    ("note", "message"),
    [
        pytest.param(note, message, id=name)
        for name, note, message in [
            ("depth 1,000", b"[" * 1_000 + b"]" * 1_000, "not valid JSON: nested too deeply"),
            ("depth 20,000", b"[" * 20_000 + b"]" * 20_000, "not valid JSON: nested too deeply"),
            ("lone surrogate", b'"\\ud800"', CUT),
        ]
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_odd_json_in_an_ignored_field_is_refused_alone(engine, kind, note, message):
    item = Item(kind, noted(kind, note), None, "malformed_json", message)

    assert_refused_alone(engine, item)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bad", [b"\xff", b"\xc0\x80", b"\xed\xa0\x80"], ids=repr)
def test_invalid_utf8_is_refused_alone_even_where_it_is_ignored(engine, kind, bad):
    raw = noted(kind, b'"%s"' % bad)
    message = f"not valid JSON: not UTF-8 (byte {raw.index(bad)})"

    assert_refused_alone(engine, Item(kind, raw, None, "malformed_json", message))


@pytest.mark.parametrize("root", [b"null", b'"text"', b"7", b"true", b"-1.5e3"], ids=repr)
@pytest.mark.parametrize("kind", KINDS)
def test_item_that_is_no_object_is_refused_alone(engine, kind, root):
    item = Item(kind, root, None, "wrong_type", "an item must be a JSON object")

    assert_refused_alone(engine, item)


@pytest.mark.parametrize("path", INGEST_ROUTES)
def test_array_of_nothing_is_refused(engine, path):
    answer = answer_to(engine, post(path, b" [ ] "))

    answer.is_error(400, "invalid", path)
    assert answer.body["message"] == "The array is empty; send at least one reading"


@pytest.mark.parametrize("path", [route for route in INGEST_ROUTES if route.endswith("batch")])
def test_batch_route_refuses_a_single_reading(engine, path):
    before = stored(engine)
    answer = answer_to(engine, post(path, reading_for(path)))

    answer.is_error(400, "invalid", path)
    assert answer.body["message"] == "This route expects an array of readings"
    assert stored_since(engine, before) == []


@pytest.mark.parametrize("path", INGEST_ROUTES)
def test_nested_array_is_an_item_that_is_no_object(engine, path):
    answer = answer_to(engine, post(path, b"[[%s]]" % reading_for(path)))

    answer.is_error(400, "rejected", path)
    assert answer.body["errors"][0]["message"] == "an item must be a JSON object"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("content_type", ["application/json", NDJSON])
def test_what_is_ignored_may_be_anything_that_is_json(engine, kind, content_type):
    before = stored(engine)
    many = json.dumps({f"k{number}": number for number in range(4_000)}).encode()
    for note in (b'"\\u0000"', b"1e400", b"9" * 5_000, b"[" * 100 + b"]" * 100, many):
        raw = noted(kind, note)
        answer = answer_to(engine, post(f"/v1/ingest/{kind}", raw, content_type=content_type))
        assert (answer.status, answer.body["accepted"]) == (201, 1)
    new = stored_since(engine, before)
    assert len([table for table, _ in new if table == "history"]) == 5


@pytest.mark.parametrize("kind", KINDS)
def test_reading_with_100_000_keys_is_taken(engine, kind):
    keys = b"".join(b', "k%d": %d' % (number, number) for number in range(100_000))
    raw = reading_for(kind)[:-1] + keys + b"}"

    for path in (f"/v1/ingest/{kind}", "/v1/ingest"):
        assert answer_to(engine, post(path, raw)).status == 201


@pytest.mark.parametrize("kind", KINDS)
def test_of_a_field_that_is_there_twice_the_last_one_counts_and_both_are_judged(engine, kind):
    energy = b"kwhConsumedAc" if kind == "meter" else b"kwhDeliveredDc"
    path = f"/v1/ingest/{kind}"
    before = stored(engine)

    bad = answer_to(
        engine, post(path, reading_for(kind, "DUP").replace(b"{", b'{"%s": -1, ' % energy))
    )
    good = answer_to(
        engine, post(path, reading_for(kind, "DUP").replace(b"{", b'{"%s": 7, ' % energy))
    )

    assert (bad.status, bad.body["errors"][0]["code"]) == (400, "out_of_range")
    assert good.status == 201
    new = stored(engine) - before
    assert {row[2] for row in new if row[0] == "history"} == {1.5}
