"""What a command takes: ``python -I -S cost.py COMMAND…`` runs it and prints CPU s, wall-clock s and peak MB as JSON.

A process of its own, and a small one: Linux counts as a command's peak memory what its parent had when it was started.
"""

import json
import os
import sys
import time


def main() -> None:
    """Run it to its end; its own output goes to standard error."""
    began = time.perf_counter()
    number = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, 2, 1)])
    _, status, used = os.wait4(number, 0)
    print(json.dumps([used.ru_utime + used.ru_stime, time.perf_counter() - began, used.ru_maxrss * 1024 / 1e6]))
    sys.exit(os.waitstatus_to_exitcode(status) != 0)


main()
