"""How long an agent asks to wait (RFC 9110, 10.2.3), and what becomes of that."""

from __future__ import annotations

import asyncio
import email.utils
import time
from datetime import datetime, timedelta, timezone

import pytest
from a2a_stub import Official, Response, rpc_result, run
from hypothesis import given
from hypothesis import strategies as st
from ruvector.a2a import A2aClient, Retry, TaskSpec
from ruvector.a2a.retryafter import MAX_SECONDS, http_date, retry_after
from ruvector.errors import AuthRequired, TransportError

# The example of RFC 9110, 5.6.7: one moment in its three formats.
MOMENT = 784111777.0
FORMATS = (
    "Sun, 06 Nov 1994 08:49:37 GMT",
    "Sunday, 06-Nov-94 08:49:37 GMT",
    "Sun Nov  6 08:49:37 1994",
)
NOW = 1_800_000_000.0


@pytest.mark.parametrize("text", FORMATS)
def test_the_three_formats(text):
    assert http_date(text, NOW) == MOMENT
    assert retry_after({"retry-after": text}, MOMENT - 90) == 90


@given(st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31)))
def test_dates_are_those_of_the_calendar(moment):
    """Against the standard library, which writes one format and knows all dates."""
    moment = moment.replace(microsecond=0, tzinfo=timezone.utc)
    expected = (moment - datetime(1970, 1, 1, tzinfo=timezone.utc)).total_seconds()
    assert http_date(email.utils.format_datetime(moment, usegmt=True), NOW) == expected
    if 2000 < moment.year < 2040:
        assert http_date(f"{moment:%A, %d-%b-%y %H:%M:%S} GMT", NOW) == expected
    day = f"{moment.day:2d}"
    asctime = f"{moment:%a %b} {day} {moment:%H:%M:%S} {moment.year:04d}"
    assert http_date(asctime, NOW) == expected


def test_two_digits_mean_at_most_fifty_years_ahead():
    year = datetime.fromtimestamp(NOW, timezone.utc).year
    for ahead, expected in ((50, year + 50), (51, year - 49)):
        text = f"Monday, 01-Jan-{(year + ahead) % 100:02d} 00:00:00 GMT"
        found = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=http_date(text, NOW))
        assert found.year == expected


def test_the_clock_of_the_agent_counts():
    """One that is an hour late, and says so, still asks for thirty seconds."""
    late = time.time() - 3600
    headers = {
        "date": email.utils.formatdate(late, usegmt=True),
        "retry-after": email.utils.formatdate(late + 30, usegmt=True),
    }
    assert retry_after(headers) == 30
    assert retry_after({**headers, "date": "no date"}) == 0  # an hour ago


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("120", 120),
        (" 7 ", 7),
        ("1.5", 1.5),
        ("5, 60", 60),
        ("9" * 400, MAX_SECONDS),  # RFC 9111, 1.2.2: what is too large means 2^31
        ("Fri, 31 Dec 9999 23:59:59 GMT", MAX_SECONDS),
        (FORMATS[0], 0),  # is over
        *((text, None) for text in ("", "-1", "soon", "1e3", "\u0661", "5 s", "inf", "nan")),
        ("Sun, 32 Nov 1994 08:49:37 GMT", None),
        ("Sun, 06 Xyz 1994 08:49:37 GMT", None),
        ("Sun, 06 Nov 1994 25:49:37 GMT", None),
        ("Sun, 06 Nov 1994 08:49:37 CET", None),
        ("Sun Nov  6 08:49:37 0000", None),
    ],
)
def test_what_is_understood(value, seconds):
    assert retry_after({"retry-after": value}, NOW) == seconds


@given(st.text(max_size=60))
def test_any_text_is_a_wait_or_nothing(value):
    found = retry_after({"retry-after": value, "date": value}, NOW)
    assert found is None or 0 <= found <= MAX_SECONDS


# ---- what the client does ---------------------------------------------------------------


def asked(headers, use=None, status=429, **retry):
    """An agent that is busy once: the times it was asked at, and what came."""

    async def main():
        times = []
        async with Official() as agent:
            rpc = agent.rpc

            def busy(request):
                times.append(asyncio.get_running_loop().time())
                if len(times) == 1:
                    return Response("tenant quota", status, "text/plain", headers=headers)
                return rpc(request)

            agent.handlers["/a2a"] = busy
            options = {"retry": Retry(first_pause=0.01, **retry)}
            async with await A2aClient.connect(agent.url, **options) as client:
                try:
                    return times, await client.send_task(TaskSpec("echo", "hi"), wait=True)
                except (TransportError, AuthRequired) as why:
                    return times, why

    return run(main(), policy="fake clock")


def test_a_date_is_waited_for():
    stamp = time.time()
    for text in (
        "20",
        email.utils.formatdate(stamp + 20, usegmt=True),
        time.strftime("%A, %d-%b-%y %H:%M:%S GMT", time.gmtime(stamp + 20)),
        time.asctime(time.gmtime(stamp + 20)),
    ):
        headers = {"Retry-After": text, "Date": email.utils.formatdate(stamp, usegmt=True)}
        times, task = asked(headers)
        assert task.text == "hi"
        assert 20 <= times[1] - times[0] < 21


def test_a_longer_wait_is_in_the_error_and_can_be_followed():
    times, why = asked({"Retry-After": "60"})
    assert len(times) == 1
    assert (why.retry_after, why.http_status, why.retryable) == (60.0, 429, True)
    for text in (str(why), repr(why)):
        assert "wait 60 s" in text
        assert "longest_retry_after" in text
        assert "tenant quota" in text
    times, task = asked({"Retry-After": "60"}, longest_retry_after=60)
    assert task.text == "hi"
    assert 60 <= times[1] - times[0] < 61


def test_a_number_beyond_all_bounds_is_no_reason_to_come_back_at_once():
    times, why = asked({"Retry-After": "9" * 30})
    assert (len(times), why.retry_after) == (1, MAX_SECONDS)


def test_refusals_of_other_kinds_have_the_wait_too():
    for status in (403, 500):
        _, why = asked({"Retry-After": "90"}, status=status)
        assert (why.http_status, why.retry_after) == (status, 90.0)
        assert "wait 90 s" in str(why)


def test_an_error_of_the_protocol_has_the_wait_too():
    async def main():
        async with Official() as agent:

            def busy(request):
                error = {"code": -32000, "message": "busy"}
                answer = {"jsonrpc": "2.0", "id": request.json["id"], "error": error}
                return Response(answer, 429, headers={"Retry-After": "77"})

            agent.handlers["/a2a"] = busy
            async with await A2aClient.connect(agent.url) as client:
                with pytest.raises(Exception, match="busy") as caught:
                    await client.get_task("t")
                assert caught.value.retry_after == 77.0

    run(main())


def test_a_card_that_is_busy():
    async def main():
        async with Official() as agent:
            agent.handlers["/.well-known/agent-card.json"] = lambda request: Response(
                '{"detail": "later"}', 503, headers={"Retry-After": "300"}
            )
            with pytest.raises(TransportError, match="later") as caught:
                await A2aClient.connect(agent.url)
            assert caught.value.retry_after == 300.0
            assert caught.value.retryable

    run(main())


def test_attempts_that_are_used_up_name_what_gives_more():
    async def main():
        count = []
        async with Official() as agent:
            answer = agent.rpc

            def busy(request):
                count.append(1)
                if len(count) <= 4:
                    return Response("", 503)
                task = {"id": "t", "status": {"state": "TASK_STATE_COMPLETED"}}
                return rpc_result(request, task)

            agent.handlers["/a2a"] = busy
            options = {"retry": Retry(first_pause=0.001)}
            async with await A2aClient.connect(agent.url, **options) as client:
                with pytest.raises(TransportError, match=r"3 times.*Retry\(attempts="):
                    await client.get_task("t")
            count.clear()
            options = {"retry": Retry(attempts=5, first_pause=0.001)}
            async with await A2aClient.connect(agent.url, **options) as client:
                assert (await client.get_task("t")).id == "t"
            assert answer

    run(main())
