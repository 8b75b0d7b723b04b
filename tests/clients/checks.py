"""Runs the checks of a script, and says how they went."""

import os
import sys
import traceback

PORT = int(os.environ["SERVER_PORT"])
LOCKED_PORT = int(os.environ["LOCKED_PORT"])
PASSWORD = os.environ["PASSWORD"]

_checks = []


def check(function):
    """Makes a function one of the checks; they run in the order in which they are written."""
    _checks.append(function)
    return function


def restart_server():
    """Has the server killed, and started again on its data."""
    print("restart", flush=True)
    answer = sys.stdin.readline()
    assert answer == "restarted\n", answer


def run(before_each):
    """Runs all checks, and ends the process."""
    failed = 0
    for function in _checks:
        try:
            before_each()
            function()
            print(f"ok {function.__name__}", flush=True)
        except Exception:
            failed += 1
            print(f"FAILED {function.__name__}\n{traceback.format_exc()}", flush=True)
    if failed == 0:
        print(f"checked {len(_checks)}", flush=True)
    sys.exit(failed != 0)
