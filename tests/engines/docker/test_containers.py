"""What a container of ours may do, and that nothing of anybody else's is ever touched."""

from __future__ import annotations

import asyncio

import pytest

from muelle.engines.docker.names import INSTALLATION, NAME, WORKLOAD
from muelle.engines.protocol import (
    Condition,
    ImageMissing,
    InstanceRefused,
    Limits,
    Mount,
    NoSuchInstance,
)
from muelle.engines.recipe import Recipe, Tool
from tests.engines.docker.quay import Quay
from tests.waiting import eventually

NET_RAW = 1 << 13


async def test_a_container_gets_what_it_needs_and_no_more(quay: Quay) -> None:
    limits = Limits(cpu_millis=250, memory_bytes=64 * 2**20, pids=40)
    name = await quay.create(limits=limits, mounts=(Mount("files", "/data"),), aliases=("web",), port=8000)
    found = await quay.inspect(name)
    host = found["HostConfig"]
    assert (host["Memory"], host["MemorySwap"], host["PidsLimit"]) == (64 * 2**20, 64 * 2**20, 40)
    assert host["CpuQuota"] / host["CpuPeriod"] == 0.25
    assert host["CapDrop"] == ["ALL"]
    assert not {"NET_RAW", "SYS_ADMIN", "MKNOD", "SYS_PTRACE"} & set(host["CapAdd"])
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert (host["Privileged"], host["Binds"], host["PidMode"], host["RestartPolicy"]["Name"]) == (
        False,
        None,
        "",
        "no",
    )
    assert host["NetworkMode"] == quay.names.network("ana")
    assert {mount["Type"] for mount in host["Mounts"]} == {"volume"}
    assert (host["LogConfig"]["Type"], set(host["LogConfig"]["Config"])) == ("json-file", {"max-size", "max-file"})
    assert found["Config"]["Hostname"] == "web"


async def test_the_kernel_keeps_to_it(quay: Quay) -> None:
    lines = await quay.printed("print(open('/proc/self/status').read())")
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    assert int(status["CapBnd"], 16) & NET_RAW == 0
    assert status["NoNewPrivs"] == "1"


async def test_more_processors_than_there_are_may_be_allowed(quay: Quay) -> None:
    assert await quay.printed("print('runs')", limits=Limits(cpu_millis=640_000)) == ["runs"]


async def test_a_container_of_that_name_that_is_not_ours_is_left_alone(quay: Quay) -> None:
    docker_name = quay.names.container("theirs")
    made = await quay.ask("POST", "/containers/create", {"Image": "busybox", "Cmd": ["sleep", "120"]}, name=docker_name)
    path = f"/containers/{made['Id']}"
    try:
        await quay.ask("POST", f"{path}/start")
        assert await quay.engine.observe() == []
        await quay.engine.stop("theirs", 0)
        await quay.engine.remove("theirs")
        with pytest.raises(NoSuchInstance):
            await quay.engine.start("theirs")
        with pytest.raises(InstanceRefused):
            await quay.create(name="theirs")
        assert (await quay.ask("GET", f"{path}/json"))["State"]["Running"]
    finally:
        await quay.ask("DELETE", path, force="1")


async def test_a_label_alone_makes_no_instance(quay: Quay) -> None:
    """An image may be labelled by whoever builds it, and its containers inherit that."""
    labels = {INSTALLATION: quay.installation, NAME: "false", WORKLOAD: "somebody's"}
    await quay.ask("POST", "/containers/create", {"Image": "busybox", "Labels": labels})
    assert await quay.engine.observe() == []


async def test_a_volume_of_that_name_that_is_not_ours_is_not_mounted(quay: Quay) -> None:
    name = quay.names.volume("files")
    await quay.ask("POST", "/volumes/create", {"Name": name})
    try:
        with pytest.raises(InstanceRefused):
            await quay.create(mounts=(Mount("files", "/data"),))
        await quay.engine.remove_volume("files")
        assert (await quay.ask("GET", f"/volumes/{name}"))["Name"] == name
    finally:
        await quay.ask("DELETE", f"/volumes/{name}")


async def test_what_an_owner_built_is_no_image_for_others(quay: Quay) -> None:
    image = await quay.build(quay.order(Recipe("x", Tool.NOTHING, command=("true",))))
    tag = (await quay.ask("GET", f"/images/{image.id}/json"))["RepoTags"][0]
    for reference in (tag, image.id, image.id.removeprefix("sha256:")[:12]):
        with pytest.raises(ImageMissing):
            await quay.engine.resolve(reference, None, lambda line: None)


async def test_a_missing_program_is_told_with_its_name(quay: Quay) -> None:
    name = await quay.run(command=("no-such-program",))
    await quay.ended(name)
    seen = await quay.sight(name)
    assert seen is not None
    assert "no-such-program" in seen.reason


async def test_a_network_that_was_taken_away_is_no_fault_of_the_program(quay: Quay) -> None:
    name = await quay.create("time.sleep(60)")
    (network,) = await quay.networks()
    await quay.ask("DELETE", f"/networks/{network['Id']}")
    await quay.engine.start(name)
    seen = await quay.sight(name)
    assert seen is not None
    assert seen.condition is Condition.RUNNING


async def test_an_unknown_image_is_missing(quay: Quay) -> None:
    with pytest.raises(ImageMissing):
        await quay.create(image="sha256:" + "0" * 64)


@pytest.mark.parametrize(
    "changes",
    [
        {"environment": {"A=B": "c"}},
        {"environment": {"LINE\nBREAK": "c"}},
        {"environment": {"ZERO": "\0"}},
        {"mounts": (Mount("files", "relative"),)},
        {"mounts": (Mount("files", "/"),)},
        {"limits": Limits(memory_bytes=1024)},
        {"command": ("x" * 200_000,)},
    ],
    ids=["an equals sign", "a line break", "a zero byte", "a relative path", "the root", "no memory", "a long command"],
)
async def test_what_cannot_be_is_refused(quay: Quay, changes: dict[str, object]) -> None:
    with pytest.raises(InstanceRefused):
        await quay.create(**changes)
    assert await quay.engine.observe() == []


async def test_two_who_remove_at_once_both_see_it_gone(quay: Quay) -> None:
    name = await quay.run("time.sleep(60)")

    async def remove() -> None:
        await quay.engine.remove(name)
        assert await quay.sight(name) is None

    await asyncio.gather(*(remove() for _ in range(4)))


async def test_changes_are_told_from_the_call_on(quay: Quay) -> None:
    changes = quay.engine.watch()
    name = await quay.run("time.sleep(60)", workload="seen")
    async with asyncio.timeout(10):
        assert await anext(aiter(changes)) == "seen"
    await quay.engine.remove(name)


async def test_memory_is_counted_without_what_the_kernel_can_let_go(quay: Quay) -> None:
    script = "open('/tmp/f','wb').write(bytes(60<<20)); open('/tmp/f','rb').read(); print('full'); time.sleep(60)"
    name = await quay.run(script, limits=Limits(memory_bytes=256 * 2**20))
    async with asyncio.timeout(30):
        async for line in quay.engine.logs(name):
            assert line.text == "full"
            break

    async def small() -> bool:
        return (await quay.engine.usage(name)).memory_bytes < 50 * 2**20

    await eventually(small, 20)
