"""The files of a lab's cluster, as an admin would write them."""

from __future__ import annotations

SERVER_ROLES = ("login", "controller", "database", "storage")
# Who there is, and as what; ids are in the file itself.
ACCOUNTS = (
    ("ada", "student"),
    ("ben", "student"),
    ("cleo", "student"),
    ("ines", "instructor"),
    ("admin", "admin"),
)


def node_plan(count: int) -> list[tuple[str, tuple[str, ...]]]:
    """(name, roles) of each node: one that serves, the others compute."""
    computing = [(f"node{number:02d}", ("compute",)) for number in range(1, count)]
    return [("login", SERVER_ROLES), *computing]
