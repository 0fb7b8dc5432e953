"""The published command line: `python main.py --dataset ... --model ...` is `synergy run ...`."""

import sys

from synergy.terminal.cli import main

if __name__ == "__main__":
    sys.exit(main(["run", *sys.argv[1:]]))
