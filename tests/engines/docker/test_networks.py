"""Networks: one for each owner, out of our range, apart from each other, from the cloud's secrets and from the host."""

from __future__ import annotations

import asyncio
import subprocess
from ipaddress import IPv4Network

import pytest

from muelle.engines.protocol import EngineFailed
from tests.engines.docker.quay import Quay

SMALL = "10.214.77.0/25"
"""Room for two."""
CALL = """
import socket
try:
    socket.create_connection(({host!r}, {port}), timeout=3).close(); print('reached')
except OSError as error:
    print('not reached')
"""


def subnets(networks: list[dict[str, dict[str, list[dict[str, str]]]]]) -> list[IPv4Network]:
    return [IPv4Network(network["IPAM"]["Config"][0]["Subnet"]) for network in networks]


async def test_owners_get_parts_of_the_range_also_when_all_come_at_once(quay: Quay) -> None:
    owners = [f"owner-{number}" for number in range(12)]
    await asyncio.gather(*(quay.create(owner=owner, name=owner) for owner in owners))
    found = subnets(await quay.networks())
    assert len(set(found)) == len(owners)
    assert all(subnet.subnet_of(IPv4Network("10.213.0.0/16")) and subnet.prefixlen == 26 for subnet in found)


async def test_an_owner_gets_one_network_also_from_two_processes(quay: Quay) -> None:
    other = quay.connect()
    await asyncio.gather(quay.create(name="one"), quay.create(name="two", engine=other))
    assert len(await quay.networks()) == 1


async def test_what_somebody_else_has_taken_is_left_out(quay: Quay) -> None:
    engine = quay.connect(networks=SMALL)
    await quay.strange_network("10.214.77.0/26")
    await quay.create(owner="ana", engine=engine)
    assert subnets(await quay.networks()) == [IPv4Network("10.214.77.64/26")]


async def test_a_full_range_is_said(quay: Quay) -> None:
    engine = quay.connect(networks=SMALL)
    await quay.create(owner="one", engine=engine)
    await quay.create(owner="two", engine=engine)
    with pytest.raises(EngineFailed, match="no free part"):
        await quay.create(owner="three", engine=engine)


async def test_a_network_goes_when_its_last_instance_has_gone(quay: Quay) -> None:
    kept, gone = await quay.create(owner="ana"), await quay.create(owner="ben")
    await quay.engine.remove(gone)
    await quay.engine.tidy()
    assert [network["Name"] for network in await quay.networks()] == [quay.names.network("ana")]
    await quay.engine.remove(kept)
    await quay.engine.tidy()
    assert await quay.networks() == []
    assert await quay.run("time.sleep(60)", owner="ana")


async def test_this_machine_is_out_of_reach_but_for_a_door(quay: Quay) -> None:
    engine = quay.connect(doors=())
    if "cannot reach" not in await engine.check():
        pytest.skip("no rules can be set here")
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "0.0.0.0", 0)  # noqa: S104 - it is for containers
    async with server:
        port = server.sockets[0].getsockname()[1]
        await quay.create(owner="ana", engine=engine)
        gateway = str(subnets(await quay.networks())[0][1])
        script = CALL.format(host=gateway, port=port)
        assert await quay.printed(script, engine=engine) == ["not reached"]
        assert await quay.printed(script, engine=await opened(quay, port)) == ["reached"]


async def opened(quay: Quay, port: int) -> object:
    engine = quay.connect(doors=(port,))
    await engine.check()
    return engine


async def test_the_metadata_address_is_out_of_reach(quay: Quay) -> None:
    """The rule is looked at; no packet is sent there."""
    if "cannot reach" not in await quay.engine.check():
        pytest.skip("no rules can be set here")
    chain = f"{quay.names.firewall()}-OUT"
    rules = (await asyncio.to_thread(iptables, "-S", "DOCKER-USER")).splitlines()
    rule = f"-A DOCKER-USER -i {quay.names.bridges()}+ -j {chain}"
    assert rule in rules
    assert rules.index(rule) < rules.index("-A DOCKER-USER -j RETURN")
    assert f"-A {chain} -d 169.254.0.0/16 -j REJECT" in await asyncio.to_thread(iptables, "-S", chain)


async def test_rules_that_were_taken_away_are_set_again(quay: Quay) -> None:
    if "cannot reach" not in await quay.engine.check():
        pytest.skip("no rules can be set here")
    chain = f"{quay.names.firewall()}-IN"
    await asyncio.to_thread(iptables, "-D", "INPUT", "-i", f"{quay.names.bridges()}+", "-j", chain)
    await asyncio.to_thread(iptables, "-F", chain)
    await quay.engine.check()
    assert "REJECT" in await asyncio.to_thread(iptables, "-S", chain)
    assert chain in await asyncio.to_thread(iptables, "-S", "INPUT")


async def test_the_rules_go_with_the_last_network(quay: Quay) -> None:
    if "cannot reach" not in await quay.engine.check():
        pytest.skip("no rules can be set here")
    await quay.engine.tidy()
    assert quay.names.firewall() not in await asyncio.to_thread(iptables, "-S")


def iptables(*words: str) -> str:
    return subprocess.run(["iptables", "-w", "5", *words], check=True, capture_output=True, text=True).stdout
