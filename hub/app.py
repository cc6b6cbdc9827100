"""practicum's hub: JupyterHub, with what looks after sessions beside it.

python -I -m hub.app -f /etc/practicum/jupyterhub_config.py
"""

from __future__ import annotations

from typing import Any

from jupyterhub.app import JupyterHub

from spawners.keeper import Keeper


class PracticumHub(JupyterHub):  # type: ignore[misc]
    """Its settings are JupyterHub's (``c.JupyterHub``)."""

    name = "jupyterhub"
    keeper: Keeper | None = None

    async def start(self) -> None:
        await super().start()
        self.keeper = Keeper(self)
        self.keeper.start()

    async def cleanup(self) -> None:
        if self.keeper is not None:
            self.keeper.stop()
        await super().cleanup()


def main(argv: list[str] | None = None) -> Any:
    return PracticumHub.launch_instance(argv)


if __name__ == "__main__":
    main()
