"""The text of the hub's two units, its sudo rules and its Slurm environment: pure functions."""

from __future__ import annotations

from cluster.model import Cluster, NodeRole
from hub import login, paths
from spawners.certificates import HUB_CA

PROXY_NAMES = "/usr/local/lib/practicum/proxy-names.js"
PROXY_START = "/usr/local/lib/practicum/proxy-start"
SLURM_ENVIRONMENT = f"{paths.ETC}/slurm-environment"
CONFIG = """# Written by practicum. Settings follow from cluster.toml: change it there and apply.
from hub.config import configure

configure(c)
"""


def hub_unit(cluster: Cluster) -> str:
    """practicum-hub.service.

    No NoNewPrivileges and nothing that implies it (no seccomp-based setting): both break sudo
    and PAM's password helper. The file system is read-only but for its state.
    """
    secrets = (paths.COOKIE_SECRET, paths.CRYPT_KEY, paths.PROXY_TOKEN)
    tls = paths.HUB_TLS if cluster.internal_tls else ()
    return f"""# Written by practicum.
[Unit]
Description=practicum: the hub
Wants=network-online.target practicum-proxy.service
After=network-online.target practicum-proxy.service munge.service slurmctld.service

[Service]
User={paths.USER}
Group={paths.USER}
UMask=0077
WorkingDirectory={paths.STATE}
StateDirectory={paths.USER}
StateDirectoryMode=0700
Environment=HOME={paths.STATE} LC_ALL=C.UTF-8 PYTHONUNBUFFERED=1
EnvironmentFile=-{SLURM_ENVIRONMENT}
{_credentials(secrets, tls)}
ExecStart={paths.BIN}/python -I -m hub.app -f {paths.CONFIG}
Restart=on-failure
RestartSec=2
TimeoutStopSec=30
# a spawn's sbatch runs in here for a moment; sessions themselves are Slurm's
KillMode=mixed
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
ProtectControlGroups=yes
LimitNOFILE=16384

[Install]
WantedBy=multi-user.target
"""


def proxy_unit(cluster: Cluster) -> str:
    """practicum-proxy.service: a unit of its own, so that a restart of the hub cuts nobody off."""
    hub = cluster.hub
    scheme = "https" if cluster.internal_tls else "http"
    target = f"{scheme}://{cluster.first(NodeRole.LOGIN).address}:{hub.api_port}"
    tls = paths.PROXY_TLS if cluster.internal_tls else ()
    environment = f'Environment="NODE_OPTIONS=--require {PROXY_NAMES}"\n' if tls else ""
    # port 1-1023 is root's
    bind = "AmbientCapabilities=CAP_NET_BIND_SERVICE\n" if hub.port < 1024 else ""
    return f"""# Written by practicum.
[Unit]
Description=practicum: the hub's proxy
Wants=network-online.target
After=network-online.target

[Service]
DynamicUser=yes
{environment}UMask=0077
{_credentials((paths.PROXY_TOKEN,), tls)}
ExecStart={PROXY_START} --ip 0.0.0.0 --port {hub.port} \\
    --api-ip 127.0.0.1 --api-port {hub.proxy_api_port} \\
{_proxy_tls() if tls else ""}\
    --default-target {target} --error-target {target}/hub/error
Restart=always
RestartSec=1
{bind}NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectKernelTunables=yes
ProtectControlGroups=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictSUIDSGID=yes
LimitNOFILE=16384

[Install]
WantedBy=multi-user.target
"""


def _credentials(names: tuple[str, ...], tls: tuple[str, ...]) -> str:
    files = [*((paths.SECRETS, name) for name in names), *((paths.TLS, name) for name in tls)]
    return "\n".join(f"LoadCredential={name}:{folder}/{name}" for folder, name in files)


def _proxy_tls() -> str:
    """The proxy's arguments for TLS: with the hub that calls it, with all that it calls.

    %d is systemd's word for the credentials' folder.
    """
    pair, hub, trust = f"%d/{paths.PROXY_PAIR}", f"%d/{HUB_CA}.crt", f"%d/{paths.TRUST}"
    return f"""\
    --api-ssl-key {pair}.key --api-ssl-cert {pair}.crt --api-ssl-ca {hub} \\
    --api-ssl-request-cert --api-ssl-reject-unauthorized \\
    --client-ssl-key {pair}.key --client-ssl-cert {pair}.crt --client-ssl-ca {trust} \\
    --client-ssl-request-cert --client-ssl-reject-unauthorized \\
"""


def sudoers(cluster: Cluster, *, slurm_environment: bool) -> str:
    """What the hub may do as others: submit a script that it hands over on stdin, and end a job.

    Admins are excluded even if they are students too. Regular expressions need sudo 1.9.10.
    Lines cannot be broken open: group names are checked when cluster.toml is read.
    """
    people = [*cluster.groups_with("student"), *cluster.groups_with("instructor")]
    if not people:
        return "# Written by practicum: no group of students or instructors is declared.\n"
    members = [f"%{name}" for name in people]
    kept_out = [f"!%{name}" for name in cluster.groups_with("admin")]
    runas = ", ".join([*members, *kept_out, "!#0", f"!{paths.USER}"])
    user = paths.USER
    lines = [
        "# Written by practicum.",
        f"Defaults:{user} !requiretty, !pam_session, !use_pty, env_reset, !setenv, !lecture",
        f"Defaults:{user} !env_keep",
    ]
    if slurm_environment:
        lines.append(f"Defaults:{user} env_file = {SLURM_ENVIRONMENT}")
    lines += [
        f"Runas_Alias PRACTICUM_PEOPLE = {runas}",
        "Cmnd_Alias PRACTICUM_JOBS = /usr/bin/sbatch --parsable, /usr/bin/scancel ^[0-9]+$",
        f"{user} ALL = (PRACTICUM_PEOPLE) NOPASSWD: NOSETENV: PRACTICUM_JOBS",
    ]
    return "\n".join(lines) + "\n" + login.sudo_rule(cluster)
