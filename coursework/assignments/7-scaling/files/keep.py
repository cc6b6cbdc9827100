"""The mean price, the wrong way: makes all samples first, and keeps them.

    python3 keep.py NUMBER SAMPLES
"""

import sys

import numpy as np
from stream import prices

number, samples = int(sys.argv[1]), int(sys.argv[2])
everything = np.concatenate([prices(number, k, 100_000) for k in range(samples // 100_000)])
print(f"{everything.size} samples, mean {everything.mean():.5f}")
