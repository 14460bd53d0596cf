"""Lines in the shape of syslog files: RFC 3339 times or the traditional ones of RFC 3164."""

from __future__ import annotations

from random import Random

from ops.pico import prose, words
from ops.pico.families.family import Family, Written


def _stamp(rng: Random) -> str:
    if rng.random() < 0.65:
        return f"{words.day(rng)}T{words.clock(rng)}.{words.fraction(rng, 6)}{words.zone(rng)}"
    return f"{rng.choice(words.MONTHS)} {rng.randint(1, 31):2} {words.clock(rng)}"


def _program(rng: Random) -> str:
    plain = rng.choice(
        ("CRON", "sshd", "systemd", "rsyslogd", "cron", "dbus-daemon", "sudo", words.word(rng))
    )
    made = words.identifier(rng, "-_")
    return rng.choice((plain, made, f"{made}/{words.word(rng)}", words.cased(rng)))


def _message(rng: Random) -> str:
    name, client, port = words.word(rng), words.address(rng), words.digits(rng, 4, 5)
    shapes = (
        f"({name}) CMD ({prose.message(rng, 4)})",
        f"({name}) {rng.choice(('RELOAD', 'INFO', 'STARTUP', 'LIST', 'REPLACE'))} ({prose.message(rng, 4)})",
        f"pam_unix({words.word(rng)}:session): session {rng.choice(('opened', 'closed'))} for user {name}",
        f"Invalid user {name} from {client} port {port}",
        f"Connection closed by {rng.choice(('', 'invalid user '))}{name} {client} port {port} [preauth]",
        f"Server listening on {client} port {port}.",
        f'[origin software="{words.word(rng)}" x-pid="{port}" x-info="{prose.url(rng)}"] {name}',
        f"{rng.choice(('Started', 'Stopped', 'Starting'))} {name}.service - {prose.message(rng, 4)}",
    )
    return rng.choice(shapes) if rng.random() < 0.3 else prose.message(rng)


def write(rng: Random) -> Written:
    """One line of a syslog file, with or without a process number; the kernel's have its clock."""
    fields = {"time": _stamp(rng), "host": words.host(rng), "program": _program(rng), "pid": ""}
    fields["message"] = _message(rng)
    tag = fields["program"]
    if rng.random() < 0.08:
        tag = fields["program"] = "kernel"
        fields["message"] = f"[{words.digits(rng, 1, 5):>5}.{words.fraction(rng, 6)}] {fields['message']}"
    elif rng.random() < 0.75:
        fields["pid"] = words.digits(rng, 1, 6)
        tag += f"[{fields['pid']}]"
    return f"{fields['time']} {fields['host']} {tag}: {fields['message']}", fields


SYSLOG = Family(
    names=("syslog", "system log", "auth.log", "messages"),
    descriptions=(
        "the system log: daemons, cron, ssh and the kernel",
        "a time, the host, the program with its process number, a message",
        "what services of the machine report",
    ),
    write=write,
)
