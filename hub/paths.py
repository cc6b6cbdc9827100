"""Where the hub's things lie on the login node and where it answers, said once for the role and
the configuration."""

from __future__ import annotations

from pathlib import Path

from cluster.model import Cluster, NodeRole
from spawners.certificates import HUB_CA, SESSIONS_CA

USER = "practicum-hub"
UID = 911  # the group's id too; fixed, since munge credentials are made for this number

HOME = "/opt/practicum"  # environments of the application, with the link `current`
BIN = f"{HOME}/current/bin"
STATE = "/var/lib/practicum-hub"
ETC = "/etc/practicum"
CLUSTER = f"{ETC}/cluster.json"
CONFIG = f"{ETC}/jupyterhub_config.py"
SECRETS = f"{ETC}/secrets"
TLS = f"{ETC}/tls"  # certificates, made there
PAM_SERVICE = "practicum"

# Names of systemd credentials: the file in SECRETS, and the key in the admin's secrets file.
COOKIE_SECRET = "hub_cookie_secret"  # noqa: S105
CRYPT_KEY = "hub_crypt_key"
PROXY_TOKEN = "proxy_token"  # noqa: S105

# Files in TLS, and systemd credentials of the units that need them.
TRUST = "trust.crt"  # both authorities
HUB_PAIR, PROXY_PAIR = "hub", "proxy"
HUB_TLS = (
    TRUST, f"{HUB_CA}.crt", f"{SESSIONS_CA}.key", f"{SESSIONS_CA}.crt", f"{HUB_PAIR}.key",
    f"{HUB_PAIR}.crt",
)  # fmt: skip
PROXY_TLS = (TRUST, f"{HUB_CA}.crt", f"{PROXY_PAIR}.key", f"{PROXY_PAIR}.crt")

TEMPLATES = Path(__file__).parent / "templates"
FILES = Path(__file__).parent / "files"


def api_url(cluster: Cluster) -> str:
    """Where sessions on compute nodes reach the hub."""
    scheme = "https" if cluster.internal_tls else "http"
    return f"{scheme}://{cluster.first(NodeRole.LOGIN).address}:{cluster.hub.api_port}"


def session_url(cluster: Cluster) -> str:
    """Where a launcher asks for its session. With TLS the hub itself answers nobody without a
    certificate, and this is where one comes from: through the proxy, then. munge keeps secret
    what is said."""
    if not cluster.internal_tls:
        return api_url(cluster)
    return f"http://{cluster.first(NodeRole.LOGIN).address}:{cluster.hub.port}"
