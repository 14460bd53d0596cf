"""The first step of every make target: an environment with a Python that fits, or a plain message."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent
SCRIPT = PROJECT / "ops" / "environment.sh"


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A folder of commands without any Python."""
    commands = tmp_path / "commands"
    commands.mkdir()
    for name in ("sh", "cat"):
        (commands / name).symlink_to(shutil.which(name) or name)
    return commands


def start(commands: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the script beside ``commands``, which are all that it finds."""
    return subprocess.run(
        ["/bin/sh", str(SCRIPT), *arguments],
        cwd=commands.parent,
        env={"PATH": str(commands)},
        capture_output=True,
        text=True,
        check=False,
    )


def put(commands: Path, name: str, body: str) -> None:
    """Add a command that runs ``body``."""
    file = commands / name
    file.write_text(f"#!/bin/sh\n{body}\n")
    file.chmod(0o755)


def test_no_python_is_told_plainly(bare: Path) -> None:
    """Without a Python that fits the script fails and says which to install, and how."""
    put(bare, "python3", "exit 1")  # older than 3.11: the question for its version fails
    result = start(bare, ".venv")
    assert result.returncode == 1
    assert "needs Python 3.11 or newer" in result.stderr
    assert "apt-get install python3 python3-venv" in result.stderr
    assert "brew install python@3.13" in result.stderr


def test_a_missing_venv_package_is_named(bare: Path) -> None:
    """A Python that cannot make environments, as Debian ships it, leads to its package's name."""
    code = 'case "$2" in *ensurepip*) exit 1 ;; *print*) echo python3.12-venv ;; esac'
    put(bare, "python3.12", code)
    result = start(bare, ".venv")
    assert result.returncode == 1
    assert "apt-get install python3.12-venv" in result.stderr


def test_the_newest_python_that_fits_is_taken(bare: Path) -> None:
    """Of several Pythons the newest that the wheels are built for makes the environment, once."""
    making = 'case "$1" in --version) echo Python "${0##*.}" ;; -m) /bin/mkdir -p "$4/bin"; '
    making += f'/bin/ln -s {sys.executable} "$4/bin/python"; echo "$0" ;; esac'
    for name in ("python3", "python3.11", "python3.12"):
        put(bare, name, making)
    first = start(bare, ".venv")
    assert first.stdout.splitlines()[-1].endswith("/python3.12")
    assert start(bare, "--check", ".venv").returncode == 0
    assert start(bare, ".venv").stdout == ""


def test_a_moved_environment_counts_as_missing(bare: Path) -> None:
    """An environment carries its absolute path: after a move it is made anew."""
    environment = bare.parent / ".venv"
    (environment / "bin").mkdir(parents=True)
    (environment / "bin" / "python").symlink_to(sys.executable)
    assert start(bare, "--check", ".venv").returncode != 0
    (environment / ".place").write_text(f"{environment}\n")
    assert start(bare, "--check", ".venv").returncode == 0
    (environment / ".place").write_text("elsewhere\n")
    assert start(bare, "--check", ".venv").returncode != 0


@pytest.mark.parametrize("target", ["demo", "test", "run", "lint", "typecheck", "format", "bench", "docs"])
def test_every_target_is_there(target: str) -> None:
    """``make`` knows each target that the README names."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    command = ["make", "--dry-run", target]
    result = subprocess.run(command, cwd=PROJECT, env=environ, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "bin/" in result.stdout, "a phony target without a recipe"
