"""Ways into a real cluster: passwords from hand-outs, keys of cluster.toml, a firewall that would
shut its admin out, and the share of the cores that somebody on the login node has."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from edited import apply, edited, plan_is_empty, replaced, without_strangers
from student import text
from test_commands_lab import practicum

from provisioning.lab import network as lab_network

pytestmark = pytest.mark.lab

CLASS = "hpc101"
ELSEWHERE = "198.51.100.7"  # of the documentation's network: nobody's


@dataclass(frozen=True)
class Ways:
    path: Path  # of cluster.toml
    keys: Path  # the folder of the private keys "admin" and "ada"
    cards: dict[str, str]  # name: password, as a person reads them off the printed page
    told: str  # what the import said


@pytest.fixture(scope="module")
def ways(lab: Any, run_on: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ways]:
    """A class of two is imported, and ada and the admin have keys in cluster.toml. In the end all
    of that is taken back, and opens nothing any more."""
    keys = tmp_path_factory.mktemp("keys")
    roster = keys / "roster.csv"
    roster.write_text("username,full_name\nlou,Lou <b>Example\nkim,Kim Example\n")
    with edited(lab) as path:
        content = path.read_text()
        for name in ("admin", "ada"):
            line = f'[[users]]\nname = "{name}"\n'
            key = f'ssh_keys = ["{new_key(keys / name)}"]\n'
            content = replaced(content, line, line + key)
        path.write_text(content)
        words = ["user", "import", str(roster), "--group", CLASS, "--file", str(path)]
        done = practicum(*words)
        assert done.returncode == 0, done.stderr
        page = re.search(r"initial passwords: (\S+\.html)", done.stdout)
        assert page, done.stdout
        # address, name, password of each
        found = re.findall(r"<code>([^<]*)</code>", Path(page[1]).read_text())
        made = Ways(path, keys, dict(zip(found[1::3], found[2::3], strict=True)), done.stdout)
        apply(path)
        yield made
    for node in lab.nodes[:2]:
        assert not opens(lab, keys / "admin", "admin", node)
        assert not opens(lab, keys / "admin", "root", node)
    assert not opens(lab, keys / "ada", "ada", lab.nodes[0])
    assert log_in(lab, "lou", made.cards["lou"]) == 403
    without_strangers(lab, run_on)


def new_key(path: Path) -> str:
    """The public half, as cluster.toml has it."""
    argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", path.name, "-f", str(path)]
    subprocess.run(argv, check=True, timeout=20)
    return path.with_suffix(".pub").read_text().strip()


def opens(lab: Any, key: Path, user: str, node: Any) -> bool:
    """Whether that key alone lets somebody in there as ``user``."""
    options = {
        "BatchMode": "yes", "IdentitiesOnly": "yes", "PreferredAuthentications": "publickey",
        "StrictHostKeyChecking": "yes", "ConnectTimeout": "10",
        "UserKnownHostsFile": str(lab.ssh_key.with_name("known_hosts")),
    }  # fmt: skip
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    done = subprocess.run(
        ["ssh", "-F", "none", "-i", str(key), *words, f"{user}@{node.address}", "id -un"],
        capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    if done.returncode == 0:
        assert done.stdout == f"{user}\n"
        return True
    assert "Permission denied" in done.stderr, done.stderr
    return False


def log_in(lab: Any, name: str, password: str) -> int:
    """The status of the hub's page for those who are in, by its log-in form; 403 if refused."""
    hub = lab.hub_url.rstrip("/")
    with requests.Session() as web:
        web.trust_env = False  # the lab's addresses are not a proxy's matter
        web.get(f"{hub}/hub/login", timeout=30).raise_for_status()
        xsrf = next(item.value for item in web.cookies if item.name == "_xsrf")
        answer = web.post(
            f"{hub}/hub/login", params={"_xsrf": xsrf}, timeout=60, allow_redirects=False,
            data={"username": name, "password": password},
        )  # fmt: skip
        if answer.status_code != 302:
            assert "Invalid username or password" in answer.text
            return answer.status_code
        seen = web.get(f"{hub}/hub/home", timeout=30, allow_redirects=False)
        assert name in seen.text
        return seen.status_code


def test_the_password_on_the_card_opens_the_hub_and_another_does_not(lab: Any, ways: Ways) -> None:
    assert "added: lou, kim" in ways.told
    assert list(ways.cards) == ["lou", "kim"]
    assert len(set(ways.cards.values())) == 2
    for name, password in ways.cards.items():
        assert re.fullmatch(r"\w{4}-\w{4}-\w{4}", password)
        assert password not in ways.told
        assert log_in(lab, name, password) == 200
    assert log_in(lab, "lou", ways.cards["kim"]) == 403
    assert log_in(lab, "lou", ways.cards["lou"] + "x") == 403


def test_a_key_of_an_admin_opens_every_node_and_a_students_the_login_node(
    lab: Any, ways: Ways
) -> None:
    for node in lab.nodes:
        assert opens(lab, ways.keys / "admin", "admin", node)
        assert opens(lab, ways.keys / "admin", "root", node)
        assert opens(lab, ways.keys / "ada", "ada", node) == ("login" in node.roles)
    for node in lab.nodes[:2]:
        assert not opens(lab, ways.keys / "ada", "root", node)
        assert not opens(lab, ways.keys / "admin", "ada", node)


@pytest.fixture
def outsider(lab: Any) -> Iterator[str]:
    """Whoever practicum connects to the nodes from here comes from an address out of the subnet."""
    bridge = lab_network.bridge(lab.name)

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, timeout=20)

    ip("addr", "add", f"{ELSEWHERE}/32", "dev", bridge)
    try:
        for node in lab.nodes:
            ip("route", "add", f"{node.address}/32", "dev", bridge, "src", ELSEWHERE)
        yield ELSEWHERE
    finally:
        ip("addr", "delete", f"{ELSEWHERE}/32", "dev", bridge)  # the routes go with it


def test_a_firewall_that_would_shut_its_admin_out_is_refused(
    lab: Any, run_on: Any, outsider: str
) -> None:
    path: Path = lab.cluster_toml
    before = path.read_text()
    table = ["nft", "list", "table", "inet", "practicum"]
    rules = {node.name: text(run_on(node.name, table)) for node in lab.nodes}
    here = text(run_on("login", ["sh", "-c", "echo $SSH_CONNECTION"]))
    assert here.startswith(f"{outsider} ")
    wanted = 'firewall = true\noutside = ["192.168.0.0/16"]'
    path.write_text(replaced(before, "firewall = true", wanted))
    try:
        done = practicum("apply", "--yes", "--file", str(path))
        assert done.returncode == 1
        said = done.stdout + done.stderr
        for node in lab.nodes:
            sentence = (
                f"{node.name} failed: network.firewall would shut you out: you reach this node from "
                f"{outsider}, which is neither in network.subnet nor in network.outside: add it "
                "to network.outside"
            )
            assert sentence in " ".join(said.split()), said
        assert "Traceback" not in said
        assert {node.name: text(run_on(node.name, table)) for node in lab.nodes} == rules
    finally:
        path.write_text(before)
    plan_is_empty(path)


def test_all_cores_but_one_are_for_each_who_logs_in(lab: Any, run_on: Any) -> None:
    """As systemd has it. The lab's containers have no cgroup of their own to measure it in."""
    cores = int(text(run_on("login", ["nproc"])))
    asked = ["systemctl", "show", "user-2101.slice", "--property=CPUQuotaPerSecUSec", "--value"]
    login = ["ssh", "-o", "BatchMode=yes", "login", *asked]
    allowed = f"{cores - 1}s" if cores > 1 else "750ms"
    assert text(run_on("node01", login, user="ada", timeout=30)).strip() == allowed
    root = ["systemctl", "show", "user-0.slice", "--property=CPUQuotaPerSecUSec", "--value"]
    assert text(run_on("login", root)).strip() == "infinity"


def test_only_admins_have_commands_run_at_times_of_their_own(run_on: Any) -> None:
    """They would run outside the limits of who is logged in."""
    apt = ["apt-get", "-y", "-q", "--no-install-recommends"]
    text(run_on("login", [*apt, "install", "cron"]))
    line = "0 4 * * * true\n"
    try:
        refused = run_on("login", ["crontab", "-"], user="ada", input=line)
        assert refused.returncode != 0
        assert "not allowed to use this program" in refused.stderr, refused.stderr
        text(run_on("login", ["crontab", "-"], user="admin", input=line))
        text(run_on("login", ["crontab", "-r"], user="admin"))
    finally:
        text(run_on("login", [*apt, "purge", "cron"]))
