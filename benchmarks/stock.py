"""The peer of the first notebook: JupyterHub with batchspawner's SlurmSpawner as their documents
have it (root, ``sudo -E -u {username}``, their job script), beside ours on the same login node.

The same versions of JupyterHub and batchspawner (those of /opt/practicum), the same environment
for sessions, kernels, partition, cores, memory and user. The environment lacks batchspawner's
wrapper for sessions, which stock needs: it lies in a folder of its own.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from common import on_node, say

from cluster.load import load
from provisioning.lab import LabInfo
from provisioning.roles.firewall import TABLE
from provisioning.roles.firewall import UNIT as FIREWALL

UNIT = "stock-hub"
FOLDER = "/var/tmp/stock-hub"  # on the login node
SHARED = "/nfs/stock"
HUB = "/opt/practicum/current"
PORT, HUB_PORT, PROXY_PORT = 8100, 8181, 8101

WRAPPER = """#!{env}/bin/python
import sys
sys.path.insert(0, "{shared}/lib")
from batchspawner.singleuser import main
if __name__ == "__main__":
    sys.exit(main())
"""

CONFIG = """import batchspawner  # registers its API handler, as its documents ask

c.JupyterHub.bind_url = "http://0.0.0.0:{port}"
c.JupyterHub.hub_bind_url = "http://0.0.0.0:{hub_port}"
c.JupyterHub.hub_connect_url = "http://{address}:{hub_port}"
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:{proxy_port}"
c.ConfigurableHTTPProxy.command = ["/usr/bin/configurable-http-proxy"]
c.JupyterHub.db_url = "sqlite:///{folder}/hub.sqlite"
c.JupyterHub.cookie_secret_file = "{folder}/cookie_secret"
c.JupyterHub.authenticator_class = "dummy"
c.DummyAuthenticator.password = "{password}"
c.Authenticator.allow_all = True
c.JupyterHub.spawner_class = batchspawner.SlurmSpawner
c.SlurmSpawner.batchspawner_singleuser_cmd = "{shared}/bin/batchspawner-singleuser"
c.Spawner.cmd = ["{env}/bin/jupyterhub-singleuser"]
c.Spawner.default_url = "/lab"
c.Spawner.start_timeout = c.Spawner.http_timeout = 300  # 60 and 30: a rush would mostly fail
c.Spawner.environment = {{"JUPYTER_PATH": "{jupyter}"}}
c.SlurmSpawner.req_partition = "{partition}"
c.SlurmSpawner.req_nprocs = "{cpus}"
c.SlurmSpawner.req_memory = "{memory}M"
c.SlurmSpawner.req_runtime = "04:00:00"
"""


@contextmanager
def hub(info: LabInfo, memory_mb: int | None = None) -> Iterator[tuple[str, str]]:
    """The stock hub, running; its address and the password of everybody. ``memory_mb`` of each
    session, else that of the first profile."""
    login = info.nodes[0]
    cluster = load(info.cluster_toml)
    profile = cluster.profiles[0]
    env = f"{cluster.storage.envs}/server/current"
    password = secrets.token_urlsafe(12)
    values = {
        "port": PORT, "hub_port": HUB_PORT, "proxy_port": PROXY_PORT, "address": login.address,
        "folder": FOLDER, "shared": SHARED, "env": env, "password": password,
        "jupyter": f"{cluster.storage.envs}/jupyter", "partition": profile.partition,
        "cpus": profile.cpus, "memory": memory_mb or profile.memory_mb,
    }  # fmt: skip

    def run(*argv: str, stdin: str = "") -> str:
        return on_node(info, login.name, argv, stdin=stdin)

    run("mkdir", "-p", f"{SHARED}/lib", f"{SHARED}/bin", FOLDER)
    package = run(f"{HUB}/bin/python", "-c", "import batchspawner as b; print(b.__path__[0])")
    run("cp", "-r", package.strip(), f"{SHARED}/lib/")
    wrapper = f"{SHARED}/bin/batchspawner-singleuser"
    run("tee", wrapper, stdin=WRAPPER.format(**values))
    run("chmod", "755", wrapper)
    run("tee", f"{FOLDER}/config.py", stdin=CONFIG.format(**values))
    run("systemd-run", "--quiet", f"--unit={UNIT}", f"--working-directory={FOLDER}",
        f"{HUB}/bin/jupyterhub", "-f", f"{FOLDER}/config.py")  # fmt: skip
    # The firewall knows nothing of a second hub; the next apply would close it again.
    run("nft", "insert", "rule", *TABLE.split(), "input", "tcp", "dport", str(PORT), "accept")
    say("the stock hub runs")
    try:
        yield f"http://{login.address}:{PORT}", password
    finally:
        run("systemctl", "stop", UNIT)
        run("systemctl", "restart", FIREWALL)
        run("rm", "-rf", FOLDER, SHARED)
