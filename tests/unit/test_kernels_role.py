"""Kernels: resources, and what is asked of the login node."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hub_sample import FACTS, SECRETS, context, sample

from kernels import kernelspec, role
from kernels.environments import FILES
from kernels.requests import request
from provisioning.resources import Command, File, Package
from provisioning.role import Context

ROOT = Path(__file__).resolve().parents[2]


def test_server_then_kernels_then_what_is_left_over() -> None:
    commands = [item.id for item in role.environments(context()) if isinstance(item, Command)]
    expected = ["environment-uv", "environment-server", "kernel-python3", "kernels-left-over"]
    assert commands == expected


def test_spec_files_match_their_commands() -> None:
    """The command's digest is of exactly the files that are declared with it."""
    resources = role.environments(context())
    paths = {item.path for item in resources if isinstance(item, File)}
    for command in resources:
        if isinstance(command, Command) and command.id != "kernels-left-over":
            assert command.run[4] in paths
            assert command.run[4:] == command.check[4:]


def test_a_changed_title_is_another_order_but_the_same_build() -> None:
    first, second = (
        sample(kernels=[{"name": "py", "title": title, "packages": ["numpy"]}])
        for title in ("One", "Two")
    )
    assert role.order(first, first.kernels[0]) != role.order(second, second.kernels[0])
    one, two = request(first, first.kernels[0]), request(second, second.kernels[0])
    assert one.digest == two.digest


def test_all_files_of_the_room_are_shipped() -> None:
    """Whatever a module there imports must be there, too."""
    shipped = {name.removeprefix("node/") for name in role.ROOM_FILES}
    assert {path.name for path in (ROOT / "kernels/node").glob("*.py")} <= shipped
    paths = {item.path for item in role.room(context()) if isinstance(item, File)}
    assert f"{role.ROOM}/__main__.py" in paths


@pytest.mark.parametrize(
    ("provider", "container", "makes", "mounts"),
    [
        ("external", "", ["login"], ["node01", "node02"]),
        ("nfs", "", ["login"], ["node01", "node02"]),
        ("external", "systemd-nspawn", [], []),  # a lab's
    ],
)
def test_which_nodes_make_images_and_which_mount_them(
    provider: str, container: str, makes: list[str], mounts: list[str]
) -> None:
    storage: dict[str, object] = {"provider": provider}
    if provider == "nfs":
        storage["disk"] = {"serial": "WD-1"}
    cluster = sample(storage=storage)
    facts = {one.name: replace(FACTS, container=container) for one in cluster.machines}
    made, mounted = [], []
    for one in cluster.machines:
        here = Context(cluster, cluster.node(one.name), facts, SECRETS)
        wanted = [item.package for item in role.packages(here) if isinstance(item, Package)]
        made += [one.name] if "squashfs-tools" in wanted else []
        mounted += [one.name] if role.images(here) else []
    assert (made, mounted) == (makes, mounts)


def test_a_file_server_that_computes_has_its_own_disk_and_needs_no_image() -> None:
    nodes = [
        {"name": "login", "address": "10.80.0.10", "roles": ["login", "controller", "database"]},
        {"name": "store", "address": "10.80.0.11", "roles": ["storage", "compute"]},
        {"name": "node", "address": "10.80.0.12", "roles": ["compute"]},
    ]
    for provider, mounts in (("nfs", ["node"]), ("external", ["store", "node"])):
        storage = {
            "provider": provider,
            **({"disk": {"serial": "WD-1"}} if provider == "nfs" else {}),
        }
        cluster = sample(nodes=nodes, storage=storage)
        found = [one.name for one in cluster.machines if role.images(context(one.name, cluster))]
        assert found == mounts


def test_r_is_installed_where_a_kernel_asks_for_it() -> None:
    assert role.r_packages(context()) == []
    kernels = [{"name": "r", "title": "R", "language": "r", "packages": ["r-cran-dplyr"]}]
    found = role.r_packages(context(cluster=sample(kernels=kernels)))
    assert isinstance(found[0], Command)  # first: dpkg puts the package's own kernel aside
    names = [item.package for item in found if isinstance(item, Package)]
    assert names == ["r-base-core", "r-cran-dplyr", "r-cran-irkernel"]


def test_builds_go_to_the_partition_that_is_shared_most() -> None:
    partitions = [
        {"name": "batch", "nodes": "ALL", "default": True},
        {"name": "few", "nodes": "ALL", "oversubscribe": 20, "groups": ["students"]},
        {"name": "notebook", "nodes": "ALL", "oversubscribe": 8, "max_time": "00:30:00"},
    ]
    cluster = sample(partitions=partitions)
    wanted = request(cluster, cluster.kernels[0])
    assert (wanted.partition, wanted.minutes) == ("notebook", 30)


def test_default_kernel_is_the_first_and_the_servers_own_python_is_none() -> None:
    config = json.loads(kernelspec.server_config(sample()))
    assert config["KernelSpecManager"]["ensure_native_kernel"] is False
    assert config["MappingKernelManager"]["default_kernel_name"] == "python3"
    assert "MappingKernelManager" not in json.loads(kernelspec.server_config(sample(kernels=[])))


def test_pins_name_no_registry() -> None:
    for path in FILES.glob("*.txt"):
        text = path.read_text()
        assert "://" not in text
        assert "--hash=sha256:" in text
