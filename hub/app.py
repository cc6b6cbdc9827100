"""practicum's hub: JupyterHub, with what looks after sessions beside it.

python -I -m hub.app -f /etc/practicum/jupyterhub_config.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jupyterhub.app import JupyterHub
from jupyterhub.httpclient import JupyterHubHTTPClient
from jupyterhub.utils import make_ssl_context
from traitlets import Float, Unicode

from hub import paths
from spawners.keeper import EVERY, GRACE, Keeper, Orphans


class PracticumHub(JupyterHub):  # type: ignore[misc]
    """Its settings are JupyterHub's (``c.JupyterHub``)."""

    name = "jupyterhub"
    keeper: Keeper | None = None
    look_seconds = Float(EVERY, help="Between looks for idle sessions and lost jobs").tag(
        config=True
    )
    grace_seconds = Float(GRACE, help="A job without a server is ended after that").tag(config=True)
    tls_folder = Unicode(help="Folder with this hub's certificates").tag(config=True)

    def init_internal_ssl(self) -> None:
        """With internal_ssl: certificates from :mod:`hub.certificates` instead of certipy's, which
        are ended within a year and whose keys take a Pi a second each."""
        if not self.internal_ssl:
            super().init_internal_ssl()
            return
        folder = Path(self.tls_folder)
        self.internal_ssl_key = str(folder / f"{paths.HUB_PAIR}.key")
        self.internal_ssl_cert = str(folder / f"{paths.HUB_PAIR}.crt")
        self.internal_ssl_ca = str(folder / paths.TRUST)
        context = make_ssl_context(
            self.internal_ssl_key, self.internal_ssl_cert, self.internal_ssl_ca
        )
        JupyterHubHTTPClient.clear_instance()
        JupyterHubHTTPClient.instance(parent=self, _internal_connector_options={"ssl": context})

    async def start(self) -> None:
        await super().start()
        self.keeper = Keeper(self, self.look_seconds, Orphans(self.grace_seconds))
        self.keeper.start()

    async def cleanup(self) -> None:
        if self.keeper is not None:
            self.keeper.stop()
        await super().cleanup()


def main(argv: list[str] | None = None) -> Any:
    return PracticumHub.launch_instance(argv)


if __name__ == "__main__":
    main()
