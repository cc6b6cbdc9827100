"""What JupyterLab is told on every node: where kernels are, which is the default."""

from __future__ import annotations

import json

from cluster.model import Cluster

GRADERS_PARTS = ("course-list", "create-assignment", "formgrader", "validate-assignment")


def folder(cluster: Cluster) -> str:
    """Sessions have it in JUPYTER_PATH; kernels lie below, one folder each."""
    return f"{cluster.storage.envs}/jupyter"


def server_config(cluster: Cluster) -> str:
    """jupyter_server_config.json of the server's environment: its own Python is no kernel to
    offer, and the first kernel of cluster.toml is the default."""
    values: dict[str, object] = {"KernelSpecManager": {"ensure_native_kernel": False}}
    if cluster.kernels:
        values["MappingKernelManager"] = {"default_kernel_name": cluster.kernels[0].name}
    return json.dumps(values, indent=1, sort_keys=True) + "\n"


def lab_config() -> str:
    """jupyter_lab_config.json: nobody is asked for a newer JupyterLab, which students could not
    install anyway, and a cluster's network may end at its door."""
    values = {
        "LabApp": {
            "check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
            "extension_manager": "readonly",
        }
    }
    return json.dumps(values, indent=1, sort_keys=True) + "\n"


def page_config() -> str:
    """labconfig/page_config.json: no question about news, no extension manager at the side."""
    off = (
        "@jupyterlab/apputils-extension:announcements",
        "@jupyterlab/extensionmanager-extension",
        # of nbgrader's, which people in courses have, students need the assignment list alone
        *(f"@jupyter/nbgrader:{name}" for name in GRADERS_PARTS),
    )
    values = {"disabledExtensions": dict.fromkeys(off, True)}
    return json.dumps(values, indent=1, sort_keys=True) + "\n"
