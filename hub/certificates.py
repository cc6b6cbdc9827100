"""The certificates of the hub and its proxy, made on the login node, where their keys stay.

python -I -m hub.certificates

Run by ``practicum apply`` (see :mod:`hub.role`) when there are none, when they near their end or
when the login node's address has changed. Authorities that have time left stay, so sessions that
run go on. See :mod:`spawners.certificates` for who believes whom.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cluster.files import write
from cluster.load import load_public
from cluster.model import Cluster, NodeRole
from hub import paths
from spawners.certificates import HUB_CA, SESSIONS_CA, Authority

LIFETIME = timedelta(days=3650)
RENEW_DAYS = 60  # before their end
PROXY_API = "127.0.0.1"


def names(cluster: Cluster) -> tuple[str, ...]:
    """The names and addresses that the hub and its proxy go by."""
    login = cluster.first(NodeRole.LOGIN)
    return (login.address, PROXY_API, login.name, "localhost")


def authority(folder: Path, name: str) -> Authority:
    """The one that is there, or a new one when it is missing, unreadable or near its end."""
    try:
        found = Authority.load(folder / f"{name}.key", folder / f"{name}.crt")
    except (OSError, ValueError):
        return Authority.new(f"practicum {name}", LIFETIME)
    if found.ends - datetime.now(UTC) < timedelta(days=RENEW_DAYS):
        return Authority.new(f"practicum {name}", LIFETIME)
    return found


def make(folder: Path, cluster: Cluster) -> Mapping[str, str]:
    """All files, by name: new certificates, by authorities that may be there already."""
    machines = authority(folder, HUB_CA)
    sessions = authority(folder, SESSIONS_CA)
    files = {paths.TRUST: machines.certificate + sessions.certificate}
    made = {HUB_CA: machines.pair, SESSIONS_CA: sessions.pair}
    # the hub's certificate is written last: while it is not there, all of this is done again
    for name in (paths.PROXY_PAIR, paths.HUB_PAIR):
        made[name] = machines.issue(f"practicum {name}", names(cluster), LIFETIME)
    for name, pair in made.items():
        files |= {f"{name}.key": pair.key, f"{name}.crt": pair.certificate}
    return files


def main() -> None:
    folder = Path(paths.TLS)
    for name, text in make(folder, load_public(Path(paths.CLUSTER))).items():
        write(folder / name, text, mode=0o600)


if __name__ == "__main__":
    main()
