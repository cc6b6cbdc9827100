"""Counts the primes among 100,000 numbers, one after the other.

    python3 primes.py NUMBER              on one core
    python3 primes.py NUMBER --workers 2  divided among two processes

NUMBER chooses where it starts: NUMBER * 10,000. The table of squares needs some 80 MB.
"""

import argparse
from multiprocessing import Pool

HOW_MANY = 100_000
# squares[d] is d * d: looked up, not multiplied again for every candidate
squares = [d * d for d in range(2_000_000)]


def is_prime(candidate):
    if candidate % 2 == 0:
        return candidate == 2
    d = 3
    while squares[d] <= candidate:
        if candidate % d == 0:
            return False
        d += 2
    return candidate > 1


def count(part):
    first, last = part
    return sum(map(is_prime, range(first, last)))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("number", type=int)
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()
    start = given.number * 10_000
    slices = 40
    edges = [start + HOW_MANY * step // slices for step in range(slices + 1)]
    parts = list(zip(edges, edges[1:]))
    if given.workers > 1:
        with Pool(given.workers) as pool:
            found = sum(pool.map(count, parts, chunksize=1))
    else:
        found = sum(map(count, parts))
    print(f"primes from {start} to {start + HOW_MANY}: {found}")


if __name__ == "__main__":
    main()
