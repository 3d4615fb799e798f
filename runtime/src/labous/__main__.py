"""``python -m labous``, the same as the command ``labous``."""

import sys

from labous.cli import main

if __name__ == "__main__":
    sys.exit(main())
