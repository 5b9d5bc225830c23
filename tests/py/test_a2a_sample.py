"""The program that the agent client was asked for, word for word but for the address."""

from __future__ import annotations

import pytest
from a2a_stub import InThread, Official, RvAgent
from a2a_vectors import K1

SAMPLE = """
import ruvector
import asyncio

# Discover a peer (verifies signature per ADR-159 r2 identity).
async def main():
    client = await ruvector.A2aClient.connect("https://peer.example.com")
    print(client.card.skills)                     # list[AgentSkill]
    print(client.card.agent_id)                   # SHAKE-256(pubkey) per ADR-159

    # Send a task.
    spec = ruvector.TaskSpec(
        skill="rag.query",
        input="What is RaBitQ?",
        policy=ruvector.TaskPolicy(
            max_tokens=4_000,
            max_cost_usd=0.10,
            max_duration_ms=30_000,
        ),
    )
    task = await client.send_task(spec)
    print(task.status, task.id)

    # Stream task updates (SSE under the hood).
    async for update in client.stream_task(task.id):
        if update.kind == "artifact":
            print("artifact:", update.artifact)
        elif update.kind == "status":
            print("status:", update.status)

    # Cancel.
    await client.cancel_task(task.id)

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("make", "agent_id"),
    [
        (RvAgent, K1[2]),
        (lambda: Official("1.0"), None),
        (lambda: Official("1.0", capabilities={}), None),  # which does not stream
        (lambda: Official("0.3"), None),
        (lambda: Official("0.2"), None),
    ],
    ids=["rvagent", "1.0", "1.0 without streams", "0.3", "0.2"],
)
def test_the_sample_runs(make, agent_id, run_python):
    with InThread(make()) as agent:
        code = SAMPLE.replace("https://peer.example.com", agent.url)
        result = run_python(code)
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0].startswith("(AgentSkill(id=")
    assert lines[1] == str(agent_id)
    state, task_id = lines[2].split()
    assert task_id in agent.tasks
    assert state == ("completed" if agent_id else "submitted")
    assert lines[-1] == "status: completed"
    assert [line.split("(")[0] for line in lines[3:] if line.startswith("artifact")] == [
        "artifact: Artifact"
    ]
    assert "What is RaBitQ?" in lines[-2]
