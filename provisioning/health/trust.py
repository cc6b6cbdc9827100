"""munge between the login node and every other, in both directions."""

from __future__ import annotations

from collections.abc import Iterator

from cluster.model import NodeRole
from provisioning.health.machine import MUNGE_SECONDS, clock_offset
from provisioning.health.model import Check, Finding, Level, Picture

# munge.h's numbers, which unmunge exits with
SOCKET, BAD_CRED, INVALID, EXPIRED, REWOUND = 6, 8, 14, 15, 16
OTHER_KEY = (BAD_CRED, INVALID)


def munge(picture: Picture) -> Iterator[Finding]:
    first = picture.cluster.first(NodeRole.LOGIN).name
    login = picture.looks.get(first)
    if login is None or not login.runs("munge"):
        return  # told as such
    good = 0
    for name, look in picture.looks.items():
        if not look.runs("munge"):
            continue
        if look.credential.code != 0:
            said = look.credential.out or "no answer"
            yield Finding(name, "munge", Level.BAD, f"munge on {name} makes no credential: {said}")
            continue
        codes = {code for code in (login.opened.get(name), look.opened.get(first)) if code}
        # A clock that is wrong is told with the clocks.
        skewed = abs(clock_offset(picture, name)) >= MUNGE_SECONDS
        if not codes:
            good += 1
        elif not (skewed and codes <= {EXPIRED, REWOUND}):
            yield Finding(name, "munge", Level.BAD, _why(name, first, codes))
    if good == len(picture.looks):
        yield Finding("", "munge", Level.OK, f"munge: {first} and all nodes trust each other")


def _why(name: str, first: str, codes: set[int]) -> str:
    if codes & set(OTHER_KEY):
        return (
            f"{name} has another munge key than {first}: practicum apply brings the right one to "
            "every node"
        )
    if codes & {EXPIRED, REWOUND}:
        return f"munge credentials of {name} are too old or too new for {first}: see the clocks"
    if SOCKET in codes or -1 in codes:
        return f"munge does not answer on {name} or {first}: systemctl restart munge there"
    return f"munge credentials are refused between {name} and {first} (munge's error {min(codes)})"


CHECKS = (Check("munge", munge),)
