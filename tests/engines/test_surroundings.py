"""What every engine promises of an instance's surroundings: environment, port, address, command."""

from __future__ import annotations

import os

import pytest

from muelle.engines.protocol import Condition, InstanceRefused
from tests.engines.programs import JOB, TICKER
from tests.engines.yard import PORT, Yard

pytestmark = pytest.mark.asyncio(loop_scope="session")

ODD_VALUES = {
    "QUOTES": """it's "quoted" `here`""",
    "DOLLARS": "$HOME ${PATH} $(id) %PATH%",
    "BACKSLASHES": r"a\b\\c\n",
    "BLANKS": "  before and after  ",
    "UNICODE": "¡olé! 🚢 ñ",
    "EMPTY": "",
    "EQUALS": "a=b=c",
    "HASH": "#no comment",
    "lower_case": "kept",
}


@pytest.mark.parametrize("name", ODD_VALUES)
async def test_a_program_finds_an_odd_value_as_it_was_told(yard: Yard, name: str) -> None:
    found = await yard.environment(await yard.shared("odd values", port=PORT, environment=ODD_VALUES))
    assert found[name] == ODD_VALUES[name]


async def test_many_values_at_once_are_all_found(yard: Yard) -> None:
    told = {f"VALUE_{number}": str(number) * 50 for number in range(100)}
    found = await yard.environment(await yard.web(environment=told))
    assert told.items() <= found.items()


async def test_a_value_with_a_line_end_is_kept_or_refused_and_never_becomes_two(yard: Yard) -> None:
    told = {"TWO_LINES": "first\nSMUGGLED=yes"}
    try:
        found = await yard.environment(await yard.web(environment=told))
    except InstanceRefused:
        return
    assert found["TWO_LINES"] == told["TWO_LINES"]
    assert "SMUGGLED" not in found


async def test_a_value_with_a_null_byte_is_refused(yard: Yard) -> None:
    with pytest.raises(InstanceRefused):
        await yard.create(environment={"NULL": "a\0b"})


async def test_the_images_environment_is_there(yard: Yard) -> None:
    assert (await yard.environment(await yard.shared_web()))["FROM_THE_IMAGE"] == "yes"


async def test_what_is_ordered_goes_before_the_images_environment(yard: Yard) -> None:
    assert (await yard.environment(await yard.shared_web()))["OF_BOTH"] == "order"


async def test_our_own_environment_is_not_there(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUELLE_SECRET_KEY", "ours alone")
    found = await yard.environment(await yard.web())
    assert "MUELLE_SECRET_KEY" not in found
    assert os.environ["MUELLE_SECRET_KEY"] not in found.values()


async def test_a_program_is_told_its_port(yard: Yard) -> None:
    assert int((await yard.environment(await yard.shared_web()))["PORT"]) > 0


async def test_a_port_in_the_ordered_environment_does_not_lead_astray(yard: Yard) -> None:
    name = await yard.web(environment={"PORT": "1"})
    assert (await yard.get(name)).status_code == 200


async def test_a_program_that_listens_is_reached_at_its_address(yard: Yard) -> None:
    assert (await yard.get(await yard.shared_web(), "/a/path?with=query")).json()["path"] == "/a/path?with=query"


async def test_a_program_without_a_port_has_no_address(yard: Yard) -> None:
    sighting = await yard.seen(await yard.run(TICKER), Condition.RUNNING)
    assert sighting.address is None


async def test_a_program_that_has_ended_has_no_address(yard: Yard) -> None:
    assert (await yard.run_to_end(JOB, port=PORT)).address is None


async def test_two_with_the_same_port_are_each_reached(yard: Yard) -> None:
    names = [await yard.web(environment={"WHO": who}) for who in ("one", "two")]
    assert await yard.address(names[0]) != await yard.address(names[1])
    assert [(await yard.environment(name))["WHO"] for name in names] == ["one", "two"]


async def test_an_address_stays_while_it_runs(yard: Yard) -> None:
    name = await yard.shared_web()
    assert await yard.address(name) == await yard.address(name)


async def test_a_command_that_is_ordered_is_run_in_place_of_the_images(yard: Yard) -> None:
    name = await yard.run(JOB, command=("echo", "something", "else"))
    sighting = await yard.seen(name, Condition.EXITED)
    assert sighting.exit_code == 0
    assert await yard.texts(name) == ["something else"]


async def test_a_commands_words_stay_as_they_are(yard: Yard) -> None:
    """No shell comes between: what would be special to one is plain here."""
    name = await yard.run(JOB, command=("echo", "$HOME; exit 9 && `id`", "two  blanks"))
    assert (await yard.seen(name, Condition.EXITED)).exit_code == 0
    assert await yard.texts(name) == ["$HOME; exit 9 && `id` two  blanks"]
