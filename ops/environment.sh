#!/bin/sh
# Makes the virtual environment named by the last argument, unless it is there,
# with the newest Python that the locked wheels are built for. With --check it
# only says by its exit status whether the environment is usable: scripts in it
# carry its absolute path, so one that was moved is not. Called by the Makefile.
set -eu

if [ "$1" = --check ]; then
    "$2/bin/python" -c '' 2>/dev/null && [ "$(cat "$2/.place" 2>/dev/null)" = "$PWD/$2" ]
    exit
fi

venv=$1
sh "$0" --check "$venv" && exit 0
lacking=
for name in ${PYTHON:-python3.13 python3.12 python3.11 python3}; do
    command -v "$name" >/dev/null 2>&1 || continue
    "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue
    if ! "$name" -c 'import ensurepip, venv' 2>/dev/null; then
        [ -n "$lacking" ] || lacking=$("$name" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
        continue
    fi
    echo "Making $venv with $("$name" --version)."
    "$name" -m venv --clear "$venv"
    echo "$PWD/$venv" >"$venv/.place"
    exit 0
done

if [ -n "$lacking" ]; then
    echo "Penstock: the Python here cannot make virtual environments." >&2
    echo "On Debian and Ubuntu that is a package of its own:  apt-get install $lacking" >&2
else
    echo "Penstock needs Python 3.11 or newer, best 3.13, and found none." >&2
    echo "Debian 12, Ubuntu 24.04 or newer:  apt-get install python3 python3-venv" >&2
    echo "macOS:                             brew install python@3.13" >&2
    echo "Under another name:                make PYTHON=/where/it/is" >&2
fi
exit 1
