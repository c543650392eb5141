"""`python -m fairyring`, the same as the command `fairyring`."""

import sys

from fairyring.cli import main

if __name__ == "__main__":
    sys.exit(main())
