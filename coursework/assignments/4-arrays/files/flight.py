"""How far does a ball fly that leaves at an angle, slowed down by the air?

    python3 flight.py NUMBER TASK

NUMBER gives the speed, line TASK of parameters.csv the angle in degrees. It follows the ball in
steps of half a microsecond and writes `angle,range` (degrees, metres) to range-TASK.csv.
"""

import math
import pathlib
import sys

GRAVITY = 9.81  # m/s2
DRAG = 0.004  # 1/m
STEP = 5e-7  # s


def main(number, task):
    speed = 20 + number % 1000 / 100  # m/s
    row = pathlib.Path("parameters.csv").read_text().splitlines()[task]
    try:
        angle = float(row)
    except ValueError:
        sys.exit(f"flight: line {task} of parameters.csv is damaged: {row!r}")
    x = y = 0.0
    vx = speed * math.cos(math.radians(angle))
    vy = speed * math.sin(math.radians(angle))
    while y >= 0:
        slow = DRAG * math.sqrt(vx * vx + vy * vy)
        vx -= slow * vx * STEP
        vy -= (GRAVITY + slow * vy) * STEP
        x += vx * STEP
        y += vy * STEP
    pathlib.Path(f"range-{task}.csv").write_text(f"{angle},{x:.3f}\n")
    print(f"angle {angle}: {x:.3f} m")


main(int(sys.argv[1]), int(sys.argv[2]))
