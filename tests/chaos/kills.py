"""The command line of the programs that kill processes of their own, and keep an account: locks.py and queues.py."""

import argparse
import secrets
import sys

METHODS = ["fork", "spawn", "forkserver"]


def main(description, what, play):
    """Call play(method, kills, seed) for each start method; exit with 1 if an account was wrong.

    description: of the program. what: what is used. play: returns a list of texts, what was wrong.
    """
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--kills", type=int, default=1000, help="how many processes to kill (1000)")
    parser.add_argument("--seed", default=None, help="a text; a random one if not given")
    parser.add_argument("--methods", nargs="*", default=METHODS)
    options = parser.parse_args()
    seed = options.seed or secrets.token_hex(4)
    print(f"chaos of {what}: seed {seed}, {options.kills} kills", flush=True)
    wrong = []
    for method in options.methods:
        wrong += play(method, options.kills // len(options.methods), f"{seed}:{method}")
    for text in wrong:
        print(f"    {text}")
    sys.exit(bool(wrong))
