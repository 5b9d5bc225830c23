"""``ruvector a2a``: look at an agent's card, send it a task, watch one."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from ..a2a import A2aClient, AgentCard, Bearer, Task, TaskPolicy, TaskSpec, TaskState, TaskUpdate
from ..a2a.stream import TaskStream
from .progress import Progress, clean, one_line
from .report import tell_json

WAITING = 3  #: exit code of a task that needs something from the caller


def add(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    card = commands.add_parser("card", help="show who an agent says it is, and who says so")
    card.set_defaults(run=lambda args: asyncio.run(_card(args)))

    send = commands.add_parser(
        "send", help="send a task and wait for its end", description=_SEND, epilog=_CODES
    )
    send.set_defaults(run=lambda args: asyncio.run(_send(args)))

    watch = commands.add_parser("watch", help="watch a task the agent has", epilog=_CODES)
    watch.set_defaults(run=lambda args: asyncio.run(_watch(args)))

    for command in (card, send, watch):
        command.add_argument("url", metavar="URL", help="the agent, or its card (.json)")
        _add_connection(command)
    send.add_argument("text", metavar="TEXT", help="what to do; - reads it from stdin")
    send.add_argument("--skill", help="one of the agent's skills; rvAgent peers need it")
    send.add_argument("--data", help="a JSON object to send along")
    send.add_argument("--no-wait", action="store_true", help="print the task's id and leave")
    send.add_argument("--max-duration-ms", type=int, metavar="N", help="cancel it after N ms")
    send.add_argument("--max-tokens", type=int, metavar="N")
    send.add_argument("--max-cost-usd", type=float, metavar="X")
    watch.add_argument("task_id", metavar="TASK")


_SEND = "The text of the task's artifacts is printed as it comes."
_CODES = "Exit code: 0 completed, 1 failed, 2 wrong usage, 3 the task waits for its caller."


def _add_connection(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="JSON, one object a line")
    trust = command.add_argument_group("trust")
    trust.add_argument("--agent-id", metavar="ID", help="accept this agent only")
    trust.add_argument(
        "--trusted-key",
        metavar="FILE",
        type=Path,
        action="append",
        help="a JWK or PEM file whose key signs the card",
    )
    trust.add_argument("--no-verify", action="store_true", help="accept unsigned cards")
    trust.add_argument("--token-env", metavar="NAME", help="variable that holds a bearer token")
    way = command.add_argument_group("connection")
    way.add_argument("--endpoint", metavar="URL", help="send requests here")
    way.add_argument("--allow-origin", metavar="URL", action="append", default=[])
    way.add_argument("--insecure-http", action="store_true", help="allow http to other machines")
    way.add_argument("--proxy", metavar="URL", help="such as http://host:3128; not for loopback")
    way.add_argument("--dialect", default="auto", help="auto, rvagent, 0.2, 0.3, 1.0, 1.0-rest")


def _key(path: Path) -> Any:
    text = path.read_text(encoding="utf-8")
    return json.loads(text) if text.lstrip().startswith("{") else text


async def _connect(args: argparse.Namespace) -> A2aClient:
    auth = None
    if args.token_env:
        token = os.environ.get(args.token_env)
        if not token:
            raise ValueError(f"the environment variable {args.token_env} is not set")
        auth = Bearer(token)
    return await A2aClient.connect(
        args.url,
        agent_id=args.agent_id,
        trusted_keys=[_key(path) for path in args.trusted_key] if args.trusted_key else None,
        strict_verify=not args.no_verify,
        dialect=args.dialect,
        endpoint=args.endpoint,
        allow_origins=args.allow_origin,
        allow_insecure_http=args.insecure_http,
        proxy=args.proxy,
        auth=auth,
    )


# ---- card ---------------------------------------------------------------------------


async def _card(args: argparse.Namespace) -> int:
    async with await _connect(args) as client:
        if args.json:
            trust = {name: value for name, value in vars(client.trust).items() if value != ""}
            told = {
                "trust": trust,
                "dialect": client.dialect,
                "endpoint": client.endpoint,
                "agent_id": client.card.agent_id,
                "card": client.card.raw,
            }
            tell_json(told)
        else:
            _show_card(client, client.card)
    return 0


def _show_card(client: A2aClient, card: AgentCard) -> None:
    trust = client.trust
    rows = [
        ("name", card.name),
        ("description", card.description),
        ("version", card.version),
        ("provider", card.provider or ""),
        ("trust", " ".join(filter(None, (trust.level, trust.note and f"({trust.note})")))),
        ("agent id", card.agent_id or "none: the card is not signed by an agent"),
        ("endpoint", client.endpoint + ("" if trust.endpoint_bound else " (not the card's own)")),
        ("dialect", client.dialect),
        ("streaming", "yes" if card.capabilities.streaming else "no"),
        ("authentication", ", ".join(card.auth_schemes)),
    ]
    for name, value in rows:
        if value:
            print(f"{name + ':':<16}{one_line(value)}")
    print("skills:" if card.skills else "no skills")
    for skill in card.skills:
        print(f"  {one_line(skill.id):<20}{one_line(skill.description or skill.name)}")


# ---- tasks --------------------------------------------------------------------------


async def _send(args: argparse.Namespace) -> int:
    text = _from_stdin() if args.text == "-" else args.text
    parts: list[Any] = [text]
    if args.data:
        data = json.loads(args.data)
        if not isinstance(data, dict):
            raise ValueError("--data takes a JSON object")
        parts.append(data)
    limits = {
        name: getattr(args, name) for name in ("max_duration_ms", "max_tokens", "max_cost_usd")
    }
    given = any(value is not None for value in limits.values())
    spec = TaskSpec(args.skill, parts, TaskPolicy(**limits) if given else None)
    async with await _connect(args) as client:
        if args.no_wait:
            task = await client.send_task(spec)
            if args.json:
                tell_json({"task_id": task.id, "state": str(task.status)})
            else:
                print(clean(task.id))
            return 0
        return await _follow(client.stream_task(spec), args.json)


def _from_stdin() -> str:
    if sys.stdin is None:
        raise ValueError("TEXT is -, and standard input is closed")
    return sys.stdin.read()


async def _watch(args: argparse.Namespace) -> int:
    async with await _connect(args) as client:
        return await _follow(client.stream_task(args.task_id), args.json)


async def _follow(stream: TaskStream, as_json: bool) -> int:
    """Shows a stream to its end; the exit code that fits the end."""
    count = 0
    printed = ""  # the last text, which may lack a line end
    said = ""
    async with stream, Progress() as progress:
        async for update in stream:
            count += 1
            if as_json:
                tell_json(_as_json(update), flush=True)
                continue
            text = _text(update)
            if text:
                progress.clear()
                if printed and not update.append and not printed.endswith("\n"):
                    text = "\n" + text
                print(clean(text), end="", flush=True)
                printed = text
            said = _words(update) or said
            state = stream.status.state if stream.status else TaskState.UNKNOWN
            progress.tell(f"{state}: {said}" if said else str(state))
    if printed and not printed.endswith("\n"):
        print()
    return _outcome(stream.task, as_json)


def _text(update: TaskUpdate) -> str:
    if update.artifact is not None:
        return update.artifact.text or _data(update)
    return update.message.text if update.message is not None else ""


def _data(update: TaskUpdate) -> str:
    assert update.artifact is not None
    data = [part.data for part in update.artifact.parts if part.kind == "data"]
    return "\n".join(json.dumps(item, ensure_ascii=False) for item in data)


def _words(update: TaskUpdate) -> str:
    """What the agent says about its work."""
    if update.warning is not None:
        return update.warning
    if update.status is not None and update.status.message is not None:
        return update.status.message.text
    return ""


def _as_json(update: TaskUpdate) -> dict[str, Any]:
    told: dict[str, Any] = {"kind": update.kind, "task_id": update.task_id}
    if update.status is not None:
        told["state"] = str(update.status)
        told["timestamp"] = update.status.timestamp
        told["message"] = update.status.message.text if update.status.message else None
    if update.artifact is not None:
        told["artifact"] = {"id": update.artifact.id, "name": update.artifact.name}
        told["text"] = update.artifact.text
        told["data"] = [part.data for part in update.artifact.parts if part.kind == "data"]
        told["append"] = update.append
    if update.task is not None:
        told["state"] = str(update.task.status)
    if update.message is not None:
        told["text"] = update.message.text
    if update.warning is not None:
        told["warning"] = update.warning
    for name in ("final", "synthetic", "gap"):
        if getattr(update, name):
            told[name] = True
    return told


def _outcome(task: Task | None, as_json: bool) -> int:
    state = task.status.state if task is not None else TaskState.UNKNOWN
    if state is TaskState.COMPLETED:
        return 0
    if not as_json:
        words = task.status.message.text if task and task.status.message else ""
        told = f"the task is {state}" + (f": {one_line(words)}" if words else "")
        print(f"ruvector: {told}", file=sys.stderr)
    return WAITING if state.is_interrupted else 1
