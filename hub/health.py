"""Whether the hub answers: by itself, and through its proxy as the students reach it."""

from __future__ import annotations

from collections.abc import Iterator

from cluster.model import Cluster, Node, NodeRole
from provisioning.health.model import Ask, Check, Finding, Level, Page, Picture

HUB, PROXY = "hub.health", "hub.proxy"


def ask(cluster: Cluster, node: Node) -> Ask:
    if node.name != cluster.first(NodeRole.LOGIN).name:
        return Ask()
    pages = {PROXY: (node.address, cluster.hub.port, "/hub/health")}
    if not cluster.internal_tls:  # with TLS the hub answers the proxy and sessions alone
        pages[HUB] = (node.address, cluster.hub.api_port, "/hub/health")
    return Ask(pages=pages)


def answers(picture: Picture) -> Iterator[Finding]:
    node = picture.cluster.first(NodeRole.LOGIN)
    look = picture.look(node)
    if look is None:
        return
    proxy = look.pages.get(PROXY, Page(0, "not asked"))
    # A proxy that cannot reach the hub says 503 itself.
    behind = Page(200 if proxy.status in (0, 200) else proxy.status)
    hub = behind if picture.cluster.internal_tls else look.pages.get(HUB, Page(0, "not asked"))
    url = f"http://{node.address}:{picture.cluster.hub.port}"
    if hub.status != 200 and look.runs("practicum-hub"):
        text = f"the hub runs on {node.name} but does not answer ({_said(hub)})"
        yield Finding(node.name, "hub", Level.BAD, f"{text}: see journalctl -u practicum-hub there")
    elif hub.status == 200 and proxy.status != 200 and look.runs("practicum-proxy"):
        text = f"the hub's proxy on {node.name} does not answer at {url} ({_said(proxy)})"
        yield Finding(
            node.name, "hub", Level.BAD, f"{text}: see journalctl -u practicum-proxy there"
        )
    elif hub.status == 200 and proxy.status == 200:
        yield Finding("", "hub", Level.OK, f"the hub answers at {url}")


def _said(page: Page) -> str:
    return page.error if not page.status else f"HTTP {page.status}"


CHECKS = (Check("hub", answers, ask),)
