"""Random numbers that anybody can make again: stream K of NUMBER.

Philox is a generator with a key. Two keys give two streams that have nothing to do with each
other, so chunk K of a computation can be made anywhere, in any order, and comes out the same.
"""

import numpy as np


def normals(number, k, count):
    """`count` (even) standard normal values of stream `k`, by the method of Box and Muller."""
    key = np.array([number, k], dtype=np.uint64)
    uniform = np.random.Generator(np.random.Philox(key=key)).random(count)
    radius = np.sqrt(-2 * np.log(1 - uniform[0::2]))
    angle = 2 * np.pi * uniform[1::2]
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])


def prices(number, k, count):
    """`count` prices after a year of a stock that is worth 100 now and follows a geometric
    Brownian motion. Drift and volatility depend on `number`."""
    drift = 0.01 + number % 7 / 100
    volatility = 0.15 + number % 11 / 50
    return 100 * np.exp(drift - volatility**2 / 2 + volatility * normals(number, k, count))
