"""What a program in bubblewrap sees, and what of it can be seen from outside."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from muelle.engines.local import LocalEngine
from muelle.engines.protocol import CannotDo, Capability, InstanceRefused, Mount
from muelle.kit.clock import SystemClock
from tests.engines.local.conftest import Workshop, words_of

sandboxed = pytest.mark.parametrize("workshop", ["sandboxed"], indirect=True)


async def said(workshop: Workshop, script: str, **changes: object) -> list[str]:
    name = await workshop.started(script, **changes)
    await workshop.ended(name)
    return await workshop.texts(name)


@sandboxed
async def test_it_sees_its_own_files_and_nothing_of_ours(workshop: Workshop) -> None:
    script = f"pwd; ls; ls {workshop.folder} {workshop.home}/instances /home /root /sys /var /etc/shadow 2>/dev/null"
    texts = await said(workshop, script)
    assert texts[:2] == ["/app", "app.sh"]
    shown = {text for text in texts[2:] if text and not text.endswith(":")}
    # Its own image lies where it lies, to be read; of other instances, and of what lies beside them, there is nothing.
    assert not shown & {"test", "instances", "volumes", "keeper.sock", "shadow"}


@sandboxed
async def test_it_can_write_to_its_own_and_to_nothing_else(workshop: Workshop) -> None:
    texts = await said(
        workshop,
        "touch here && echo app; touch ~/here && echo home; touch /tmp/here && echo tmp; "
        "touch /usr/here 2>/dev/null && echo usr; touch /etc/passwd 2>/dev/null && echo passwd; "
        "(echo 1 > /proc/sys/kernel/sysrq) 2>/dev/null && echo sysrq; "
        "(echo x > /proc/sysrq-trigger) 2>/dev/null && echo trigger; "
        "mount -t tmpfs x /mnt 2>/dev/null && echo mount; unshare -Ur true 2>/dev/null && echo root; id -u",
    )
    assert [text for text in texts if text != "root"] == ["app", "home", "tmp", "1000"]
    assert not Path("/usr/here").exists()


@sandboxed
async def test_it_sees_no_process_but_its_own(workshop: Workshop) -> None:
    texts = await said(workshop, "for each in /proc/[0-9]*; do echo ${each#/proc/}; done; kill -9 $PPID; echo alive")
    assert len(texts) <= 4
    assert str(os.getpid()) not in texts[:-1]


@sandboxed
async def test_its_environment_is_on_no_command_line_and_does_not_change_the_sandbox(workshop: Workshop) -> None:
    evil = workshop.folder / "evil.so"
    environment = {"SECRET": "s3cret-in-the-environment", "LD_PRELOAD": str(evil)}
    name = await workshop.started("echo $SECRET $LD_PRELOAD; sleep 60", environment=environment)
    await workshop.printed(name, f"s3cret-in-the-environment {evil}")
    assert not workshop.left("s3cret-in-the-environment")
    outer = [pid for pid in workshop.left(name) if "bwrap" in words_of(str(pid))]
    assert outer
    for pid in outer:
        assert b"LD_PRELOAD" not in Path("/proc", str(pid), "environ").read_bytes()


@sandboxed
async def test_a_volume_is_there_for_its_instances_alone(workshop: Workshop) -> None:
    mount = Mount("data", "/data")
    assert await said(workshop, "echo kept > /data/file; ls /data", mounts=(mount,)) == ["file"]
    assert await said(workshop, "cat /data/file", mounts=(mount,)) == ["kept"]
    assert await said(workshop, "ls /data 2>/dev/null; echo none") == ["none"]


@sandboxed
@pytest.mark.parametrize("path", ["/", "data", "/etc/x", "/usr", "/app", "/proc/1", "/data/../etc", "/dev/x"])
async def test_a_volume_hides_nothing_of_the_system(workshop: Workshop, path: str) -> None:
    with pytest.raises(InstanceRefused):
        await workshop.created("", mounts=(Mount("data", path),))


async def test_without_it_there_are_no_volumes_and_that_is_said(workshop: Workshop) -> None:
    assert Capability.VOLUMES not in workshop.engine.capabilities
    with pytest.raises(CannotDo, match="bubblewrap"):
        await workshop.created("", mounts=(Mount("data", "/data"),))
    assert "one tenant only" in await workshop.engine.check()


async def test_one_that_is_not_permitted_is_none(tmp_path: Path) -> None:
    refusing = tmp_path / "bwrap"
    refusing.write_text("#!/bin/sh\nexit 1\n")
    refusing.chmod(0o755)
    engine = LocalEngine(tmp_path / "home", "test", SystemClock(), bubblewrap=str(refusing))
    assert Capability.VOLUMES not in engine.capabilities
    await engine.close()
