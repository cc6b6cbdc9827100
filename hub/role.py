"""The hub on the login node: its user, environment, configuration, units and rights."""

from __future__ import annotations

from cluster.load import public_json
from cluster.model import Cluster, NodeRole
from hub import certificates, login, paths, units
from kernels.build_env import Spec
from kernels.environments import GRAMMAR, LIBRARY, builder, environment
from provisioning import wheel
from provisioning.resources import (
    Command,
    Directory,
    Group,
    Link,
    Package,
    Resource,
    Service,
    User,
    file,
)
from provisioning.role import Context, Opening, Role, opening
from provisioning.roles.slurm import conf_server, is_client
from provisioning.roles.where import everywhere, on, on_first

HUB = "practicum-hub"
PROXY = "practicum-proxy"
RESTART_HUB = (f"restart:{HUB}",)
RESTART_PROXY = (f"restart:{PROXY}",)
IMPORTS = ("jupyterhub.app", "batchspawner", "wrapspawner", "practicum", "hub.config")


def account(context: Context) -> list[Resource]:
    """The hub's user, everywhere: Slurm's controller and database look its name up by number.

    On the login node it is in group shadow, which is how it checks passwords without being root.
    """
    here = context.node.name == context.cluster.first(NodeRole.LOGIN).name
    groups = ("shadow",) if here else ()
    return [
        Group(group=paths.USER, gid=paths.UID),
        User(user=paths.USER, uid=paths.UID, group=paths.USER, groups=groups, home=paths.STATE),
    ]


def public_copy(context: Context) -> list[Resource]:
    """cluster.toml without secrets, for all rooms but the admin's."""
    return [
        Directory(path=paths.ETC),
        file(paths.CLUSTER, public_json(context.cluster), notify=_hub_notice(context)),
    ]


def _hub_notice(context: Context) -> tuple[str, ...]:
    first = context.cluster.first(NodeRole.LOGIN).name
    return RESTART_HUB if context.node.name == first else ()


def application(_context: Context) -> list[Resource]:
    """practicum itself and JupyterHub, in an environment that no student's Python ever sees."""
    pins = f"{LIBRARY}/requirements.txt"
    own = f"{LIBRARY}/wheels/{wheel.filename()}"
    spec = Spec(
        name="hub",
        root=paths.HOME,
        requirements=pins,
        wheels=(own,),
        remove=(GRAMMAR,),
        imports=IMPORTS,
        keep=1,
    )
    contents = {pins: (paths.FILES / "requirements.txt").read_bytes(), own: wheel.build()}
    return [
        *builder(),
        Directory(path=f"{LIBRARY}/wheels"),
        Directory(path=paths.HOME),
        *environment(spec, contents, notify=RESTART_HUB),
        Link(path="/usr/local/bin/practicum", target=f"{paths.BIN}/practicum"),
    ]


def secrets(context: Context) -> list[Resource]:
    """Root's alone; systemd hands each to the unit that needs it."""
    needed = {
        paths.COOKIE_SECRET: RESTART_HUB,
        paths.CRYPT_KEY: RESTART_HUB,
        paths.PROXY_TOKEN: (*RESTART_PROXY, *RESTART_HUB),
    }
    return [
        Directory(path=paths.SECRETS, mode=0o700),
        *(
            file(f"{paths.SECRETS}/{name}", f"{context.secrets.get(name, '')}\n", secret=True,
                 notify=notify)
            for name, notify in needed.items()
        ),
    ]  # fmt: skip


def tls(context: Context) -> list[Resource]:
    """Certificates, made on the node; the file of names says when there have to be others."""
    if not context.cluster.internal_tls:
        return []
    ends = str(certificates.RENEW_DAYS * 86400)
    newest = f"{paths.TLS}/{paths.HUB_PAIR}.crt"
    names = "".join(f"{name}\n" for name in certificates.names(context.cluster))
    return [
        Package(package="openssl"),
        Directory(path=paths.TLS, mode=0o700),
        file(f"{paths.TLS}/names", names, notify=("run:hub-certificates",)),
        Command(
            id="hub-certificates",
            check=("openssl", "x509", "-noout", "-checkend", ends, "-in", newest),
            run=(f"{paths.BIN}/python", "-I", "-m", "hub.certificates"),
            summary="make the certificates of the hub and its proxy",
            notify=(*RESTART_PROXY, *RESTART_HUB),
        ),
        file(units.PROXY_NAMES, (paths.FILES / "proxy-names.js").read_text(),
             notify=RESTART_PROXY),
    ]  # fmt: skip


def rights(context: Context) -> list[Resource]:
    """PAM service and sudo rules, checked by visudo before they count."""
    client = is_client(context.cluster, context.node)
    found: list[Resource] = [
        Package(package="sudo"),
        file(f"/etc/pam.d/{paths.PAM_SERVICE}", (paths.FILES / "pam").read_text()),
        file(
            f"/etc/sudoers.d/{HUB}",
            units.sudoers(context.cluster, slurm_environment=client),
            mode=0o440,
            validate=("visudo", "-cf", "{}"),
        ),
    ]
    if client:
        server = f"SLURM_CONF_SERVER={conf_server(context.cluster)}\n"
        found.insert(0, file(units.SLURM_ENVIRONMENT, server, notify=RESTART_HUB))
    return found


def hub(context: Context) -> list[Resource]:
    """Everything on the first login node, the services last."""
    cluster = context.cluster
    return [
        Package(package="node-configurable-http-proxy"),
        *application(context),
        *secrets(context),
        *tls(context),
        *rights(context),
        *login_sessions(context),
        file(paths.CONFIG, units.CONFIG, notify=RESTART_HUB),
        file(units.PROXY_START, (paths.FILES / "proxy-start").read_text(), mode=0o755,
             notify=RESTART_PROXY),
        file(f"/etc/systemd/system/{PROXY}.service", units.proxy_unit(cluster),
             notify=RESTART_PROXY),
        file(f"/etc/systemd/system/{HUB}.service", units.hub_unit(cluster), notify=RESTART_HUB),
        # on an emulated processor the proxy was seen to take 65 s
        Service(service=PROXY, wait_port=cluster.hub.port, timeout=300),
        Service(service=HUB, wait_port=cluster.hub.api_port, timeout=300),
    ]  # fmt: skip


def login_sessions(context: Context) -> list[Resource]:
    """What the profiles that run on this node need; nothing without such a profile."""
    here = login.profiles(context.cluster)
    if not here:
        return []
    url = paths.session_url(context.cluster)
    return [
        file(login.MAY_START, login.may_start(context.cluster), mode=0o755),
        file(login.SESSION, login.session(context.cluster, url), mode=0o755),
        *(file(login.unit_file(profile), login.unit(profile)) for profile in here),
    ]


def openings(cluster: Cluster) -> list[Opening]:
    """The proxy's port is for everyone; the hub's own, which sessions call, for nodes alone."""
    return [opening(cluster.hub.port, "outside")]


ROLES = (
    Role("hub-account", "identity", everywhere, account),
    Role("public-copy", "software", on(NodeRole.LOGIN), public_copy),
    Role("hub", "hub", on_first(NodeRole.LOGIN), hub, openings),
)
