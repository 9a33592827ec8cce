"""`python -m flock_p2p`."""

import sys

from flock_p2p.cli import main

if __name__ == "__main__":
    sys.exit(main())
