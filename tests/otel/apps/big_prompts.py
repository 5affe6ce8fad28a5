"""Makes a number of calls with prompts of a given length."""

import sys

from calling import ask

if __name__ == "__main__":
    for number in range(int(sys.argv[1])):
        ask(f"{number:03d} " + "word " * (int(sys.argv[2]) // 5))
