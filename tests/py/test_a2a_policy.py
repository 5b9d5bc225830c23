"""Limits that hold before anything is sent, and while a task runs."""

from __future__ import annotations

import asyncio
import threading

import pytest
from a2a_stub import Official, RvAgent, rpc_error, run, settled
from a2a_vectors import K1
from hypothesis import given
from hypothesis import strategies as st
from ruvector.a2a import A2aClient, GlobalBudget, Retry, TaskContext, TaskPolicy, TaskSpec, Timeouts
from ruvector.a2a.policy import check_policy, check_recursion
from ruvector.errors import BudgetExceeded, PolicyViolation, RecursionLimit, TaskNotFound

FAST = {"retry": Retry(first_pause=0.01), "timeouts": Timeouts(read=30.0, task=30.0)}


def with_client(stub, use, policy="asyncio", **options):
    async def main():
        async with stub, await A2aClient.connect(stub.url, **{**FAST, **options}) as client:
            return await use(client, stub)

    return run(main(), policy=policy)


def spec(policy=None, skill="echo", **more):
    return TaskSpec(skill, "x", policy, **more)


# ---- policies -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "more", "field"),
    [
        (TaskPolicy(allowed_skills=["rag"]), {}, "allowed_skills"),
        (TaskPolicy(allowed_skills=[]), {}, "allowed_skills"),
        (TaskPolicy(max_cost_usd=0.10), {"estimated_cost_usd": 0.11}, "max_cost_usd"),
        (TaskPolicy(max_tokens=10), {"estimated_tokens": 11}, "max_tokens"),
        (TaskPolicy(max_concurrency=0), {}, "max_concurrency"),
        # what is checked first is told first
        (TaskPolicy(max_tokens=0, max_concurrency=0), {"estimated_tokens": 1}, "max_concurrency"),
    ],
)
def test_what_a_policy_forbids(policy, more, field):
    with pytest.raises(PolicyViolation) as caught:
        check_policy(spec(policy, **more), active=0)
    assert caught.value.field == field
    assert caught.value.limit is not None
    assert not caught.value.remote


@pytest.mark.parametrize(
    ("policy", "more"),
    [
        (None, {"estimated_cost_usd": 1e9}),
        (TaskPolicy(), {"estimated_tokens": 10**9}),
        (TaskPolicy(max_cost_usd=0.10), {"estimated_cost_usd": 0.10}),
        (TaskPolicy(max_tokens=10), {"estimated_tokens": 10}),
        (TaskPolicy(max_tokens=0, max_cost_usd=0.0), {}),  # no estimate, nothing to check
        (TaskPolicy(allowed_skills=["echo"], max_concurrency=4), {}),
    ],
)
def test_what_a_policy_allows(policy, more):
    check_policy(spec(policy, **more), active=3)


@pytest.mark.parametrize("stub", [RvAgent, Official])
def test_budget_exceeded(stub):
    """Too expensive by its own estimate: nothing is sent."""

    async def main(client, agent):
        before = len(agent.requests)
        policy = TaskPolicy(max_cost_usd=0.10)
        for send in (client.send_task, lambda s: client.stream_task(s).__anext__()):
            with pytest.raises(PolicyViolation) as caught:
                await send(spec(policy, estimated_cost_usd=0.25))
            error = caught.value
            assert (error.field, error.limit, error.actual) == ("max_cost_usd", 0.10, 0.25)
            assert isinstance(error, PermissionError)
        assert len(agent.requests) == before

    with_client(stub(), main)


@pytest.mark.parametrize("stub", [RvAgent, Official])
def test_tasks_at_once(stub):
    async def main(client, agent):
        done = asyncio.Event()

        async def until_told(task, emit):
            await done.wait()
            return []

        agent.run = until_told
        policy = TaskPolicy(max_concurrency=2)
        slow = TaskSpec("echo", "slow", policy)
        if isinstance(agent, RvAgent):
            running = [asyncio.ensure_future(client.send_task(slow)) for _ in range(2)]
            assert await settled(lambda: len(agent.running) == 2)
        else:
            running = [await client.send_task(slow) for _ in range(2)]
        with pytest.raises(PolicyViolation) as caught:
            await client.send_task(slow)
        assert (caught.value.field, caught.value.actual) == ("max_concurrency", 2)
        await asyncio.sleep(0)
        done.set()
        other = TaskSpec("count", "hi", policy)  # another skill counts for itself
        await client.send_task(other, wait=True)
        if isinstance(agent, RvAgent):
            await asyncio.gather(*running)
        else:
            await client.cancel_task(running[0].id)
        task = await client.send_task(slow)  # there is room again
        if not isinstance(agent, RvAgent):
            for left in (running[1], task):
                await client.cancel_task(left.id)

    with_client(stub(), main)


def test_a_reply_needs_no_room_of_its_own():
    async def main(client, agent):
        policy = TaskPolicy(max_concurrency=1)
        asked = await client.send_task(TaskSpec("echo", "ask", policy), wait=True)
        assert asked.status.state.is_interrupted
        with pytest.raises(PolicyViolation):
            await client.send_task(spec(policy))
        task = await client.reply(asked, "blue", wait=True)
        assert (task.id, task.text) == (asked.id, "blue")
        await client.send_task(spec(policy), wait=True)

    with_client(Official(), main)


def test_a_failed_send_leaves_room():
    async def main(client, agent):
        policy = TaskPolicy(max_concurrency=1)
        agent.handlers["/a2a"] = lambda request: None
        for _ in range(3):
            with pytest.raises(Exception, match="404"):
                await client.send_task(spec(policy))
            with pytest.raises(Exception, match="404"):
                await client.stream_task(spec(policy)).__anext__()

    with_client(Official(), main)


@pytest.mark.parametrize("how", ["wait", "stream", "wait_task"])
@pytest.mark.parametrize("stub", [RvAgent, Official])
def test_the_time_of_a_task_is_up(stub, how):
    async def main(client, agent):
        async def forever(task, emit):
            await asyncio.sleep(60)

        agent.run = forever
        task = TaskSpec("echo", "slow", TaskPolicy(max_duration_ms=300))

        async def work():
            if how == "stream":
                return [update async for update in client.stream_task(task)]
            if how == "wait" or isinstance(agent, RvAgent):
                return await client.send_task(task, wait=True)
            return await client.wait_task(await client.send_task(task), poll=(0.02, 0.02))

        with pytest.raises(PolicyViolation) as caught:
            await work()
        assert (caught.value.field, caught.value.limit) == ("max_duration_ms", 300)
        assert sum("ancel" in method for method in agent.methods()) == 1
        assert len(client._session.gate) == 0

    with_client(stub(), main, "fake clock")


@pytest.mark.parametrize("stub", [RvAgent, Official])
@pytest.mark.parametrize(
    ("data", "words"),
    [
        (float("nan"), "finite"),
        ({1, 2}, "set"),
        (b"bytes", "bytes"),
        ({"deep": [object()]}, "object"),
    ],
)
def test_what_cannot_be_written_is_not_charged(stub, data, words):
    async def main(client, agent):
        before = len(agent.requests)
        task = TaskSpec("echo", {"data": data})
        for start in (client.send_task, lambda task: client.stream_task(task).__anext__()):
            with pytest.raises((TypeError, ValueError), match=f"a task's data is made of.*{words}"):
                await start(task)
        assert len(agent.requests) == before
        assert len(client._session.gate) == 0
        await client.send_task(spec(), wait=True)  # there is room for one

    with_client(stub(), main, budget=GlobalBudget(max_tasks_per_minute=1))


def test_waiting_for_what_ends_after_its_time():
    async def main(client, agent):
        asked_again = asyncio.Event()

        async def stubborn(task, emit):
            try:
                await asyncio.sleep(600)
            except asyncio.CancelledError:  # it takes its time
                await asked_again.wait()
                raise

        agent.run = stubborn
        stream = client.stream_task(TaskSpec("echo", "x", TaskPolicy(max_duration_ms=300)))
        with pytest.raises(PolicyViolation):
            _ = [update async for update in stream]
        waiting = asyncio.ensure_future(client.wait_task(stream.task_id, poll=(0.02, 0.02)))
        assert await settled(lambda: agent.methods().count("tasks/get") == 2)
        assert stream.task_id not in agent.tasks
        asked_again.set()
        assert (await waiting).status.state == "canceled"
        with pytest.raises(TaskNotFound):
            await client.wait_task("another")

    with_client(RvAgent(), main, "fake clock")


@pytest.mark.parametrize("stub", [RvAgent, Official, lambda: Official(capabilities={})])
def test_the_time_of_a_task_is_up_before_its_stream_begins(stub):
    async def main(client, agent):
        never = asyncio.Event()

        async def silence(request):
            await never.wait()

        for path in ("/", "/a2a", "/tasks/sendSubscribe"):
            agent.handlers[path] = silence
        stream = client.stream_task(spec(TaskPolicy(max_duration_ms=50)))
        with pytest.raises(PolicyViolation) as caught:
            await stream.__anext__()
        assert (caught.value.field, caught.value.limit) == ("max_duration_ms", 50)
        assert len(client._session.gate) == 0
        never.set()

    with_client(stub(), main, "fake clock")


def test_time_that_is_enough():
    async def main(client, agent):
        task = TaskSpec("echo", "count 3 1", TaskPolicy(max_duration_ms=30_000))
        kinds = [update.kind async for update in client.stream_task(task)]
        assert kinds[-1] == "status"
        assert len(client._session.gate) == 0

    with_client(Official(), main)


def test_policies_of_the_peer():
    async def main(client, agent):
        agent.refuse = lambda request, params: rpc_error(request, -32002, "policy violation")
        with pytest.raises(PolicyViolation) as caught:
            await client.send_task(spec())
        assert caught.value.remote
        assert caught.value.code == -32002

    with_client(RvAgent(), main)


# ---- hand-overs ---------------------------------------------------------------------


def test_tasks_do_not_run_in_circles():
    context = TaskContext("a" * 32, "r" * 64, current_agent="r" * 64)
    check_recursion(context, "t" * 64)
    check_recursion(None, "t" * 64)
    for _ in range(8):
        context = context.child("n" * 64)
    check_recursion(context, None)
    with pytest.raises(RecursionLimit) as caught:
        check_recursion(context, "n" * 64)
    assert (caught.value.depth, caught.value.path) == (8, context.visited_agents)
    with pytest.raises(RecursionLimit, match="depth 9"):
        check_recursion(context.child("m" * 64), None)


def test_a_task_that_comes_back_is_not_sent():
    async def main(client, agent):
        before = len(agent.requests)
        context = TaskContext("a" * 32, K1[2], current_agent=K1[2]).child("n" * 64)
        with pytest.raises(RecursionLimit):
            await client.send_task(spec(context=context))
        assert len(agent.requests) == before
        # a peer refuses every task that was handed on, by its root
        other = TaskContext("a" * 32, "e" * 64, current_agent="e" * 64).child(K1[2])
        with pytest.raises(RecursionLimit) as caught:
            await client.send_task(spec(context=other))
        assert caught.value.path == ("e" * 64,)
        assert caught.value.code == -32004

    with_client(RvAgent(), main)


# ---- budgets ------------------------------------------------------------------------


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def charge(budget, **estimates):
    return run(budget.acquire(spec(**estimates)))


@pytest.mark.parametrize(
    ("limits", "estimates", "dim", "fits"),
    [
        ({"max_tasks_per_minute": 3}, {}, "tasks", 3),
        ({"max_tokens_per_minute": 10}, {"estimated_tokens": 4}, "tokens", 2),
        ({"max_usd_per_minute": 0.3}, {"estimated_cost_usd": 0.1}, "usd", 3),  # 0.1 * 3 > 0.3
    ],
)
def test_a_budget_of_one_minute(limits, estimates, dim, fits):
    clock = Clock()
    budget = GlobalBudget(**limits, clock=clock)
    for _ in range(2):
        for _ in range(fits):
            clock.now += 1
            charge(budget, **estimates)
        with pytest.raises(BudgetExceeded) as caught:
            charge(budget, **estimates)
        assert caught.value.dim == dim
        assert caught.value.limit == next(iter(limits.values()))
        assert caught.value.current > caught.value.limit
        clock.now += 60


def test_the_window_rolls():
    clock = Clock()
    budget = GlobalBudget(max_tasks_per_minute=2, clock=clock)
    charge(budget)
    clock.now += 30
    charge(budget)
    clock.now += 29.9
    with pytest.raises(BudgetExceeded):
        charge(budget)
    clock.now += 0.1
    charge(budget)
    with pytest.raises(BudgetExceeded):
        charge(budget)


@given(st.lists(st.tuples(st.floats(0, 40), st.integers(0, 6)), max_size=25))
def test_no_window_ever_holds_more_than_the_budget(tasks):
    clock = Clock()
    budget = GlobalBudget(max_tokens_per_minute=10, clock=clock)
    admitted = []
    for pause, tokens in tasks:
        clock.now += pause
        room = sum(n for t, n in admitted if clock.now - t < 60) + tokens <= 10
        try:
            asyncio.run(budget.acquire(spec(estimated_tokens=tokens)))
        except BudgetExceeded:
            assert not room
        else:
            assert room
            admitted.append((clock.now, tokens))


def test_without_limits_nothing_is_kept():
    budget = GlobalBudget()
    for _ in range(5):
        charge(budget)
    assert not budget._entries


def test_a_budget_that_lets_tasks_wait(monkeypatch):
    clock = Clock()
    budget = GlobalBudget(
        max_tasks_per_minute=1, overflow="queue", queue_depth=2, max_wait_s=90, clock=clock
    )
    pauses = []
    real = asyncio.sleep

    async def sleep(seconds, *rest):
        pauses.append(seconds)
        clock.now += seconds
        await real(0)

    async def main():
        await budget.acquire(spec())
        monkeypatch.setattr(asyncio, "sleep", sleep)
        await budget.acquire(spec())
        assert sum(pauses) >= 60
        budget._waiting = 2
        with pytest.raises(BudgetExceeded):
            await budget.acquire(spec())  # two are in front of it
        budget._waiting = 0
        monkeypatch.setattr(asyncio, "sleep", real)

    asyncio.run(main())
    assert budget._waiting == 0


def test_whoever_waits_too_long_or_leaves_makes_room():
    async def main():
        budget = GlobalBudget(max_tasks_per_minute=1, overflow="queue", max_wait_s=0.0)
        await budget.acquire(spec())
        with pytest.raises(BudgetExceeded, match="no room") as caught:
            await budget.acquire(spec())
        error = caught.value
        assert (error.dim, error.limit, error.current) == ("tasks", 1, 2)
        budget = GlobalBudget(max_tasks_per_minute=1, overflow="queue")
        await budget.acquire(spec())
        waiting = asyncio.ensure_future(budget.acquire(spec()))
        await asyncio.sleep(0)
        assert budget._waiting == 1
        waiting.cancel()
        await asyncio.wait({waiting})
        assert budget._waiting == 0

    run(main())


def test_what_never_fits_does_not_wait():
    budget = GlobalBudget(max_tokens_per_minute=10, overflow="queue")
    with pytest.raises(BudgetExceeded) as caught:
        charge(budget, estimated_tokens=11)
    assert caught.value.dim == "tokens"


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"overflow": "explode"}, ValueError),
        ({"max_usd_per_minute": float("nan")}, ValueError),
        ({"max_usd_per_minute": -0.1}, ValueError),
        ({"max_tokens_per_minute": "10"}, TypeError),
        ({"max_tasks_per_minute": True}, TypeError),
        ({"max_tasks_per_minute": 1.5}, TypeError),
        ({"queue_depth": -1}, ValueError),
        ({"max_wait_s": float("nan")}, ValueError),
    ],
)
def test_budgets_of_the_wrong_form(options, error):
    with pytest.raises(error, match=next(iter(options))):
        GlobalBudget(**options)


def test_a_budget_shared_by_threads():
    budget = GlobalBudget(max_tasks_per_minute=50)
    admitted = []

    def work():
        for _ in range(20):
            try:
                asyncio.run(budget.acquire(spec()))
                admitted.append(1)
            except BudgetExceeded:
                pass

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(admitted) == 50


def test_a_budget_in_front_of_a_client():
    async def main(client, agent):
        await client.send_task(spec(), wait=True)
        # what the policy refuses is not charged
        with pytest.raises(PolicyViolation):
            await client.send_task(spec(TaskPolicy(allowed_skills=[])))
        await client.send_task(spec(), wait=True)
        before = len(agent.requests)
        for send in (client.send_task, lambda s: client.stream_task(s).__anext__()):
            with pytest.raises(BudgetExceeded) as caught:
                await send(spec())
            assert not caught.value.remote
        assert len(agent.requests) == before

    with_client(Official(), main, budget=GlobalBudget(max_tasks_per_minute=2))
