"""The pretended world: what outlives a `FakeEngine`, as Docker outlives Muelle, and how to interfere with it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from weakref import WeakSet

from muelle.engines.fake.agenda import Agenda
from muelle.engines.fake.answers import answer_of
from muelle.engines.fake.door import Answer, Door
from muelle.engines.fake.estate import Estate
from muelle.engines.fake.image import KnownImage, known_image
from muelle.engines.fake.instance import Instance
from muelle.engines.fake.mischief import Failing, Lie, Mischief, OnStep
from muelle.engines.fake.program import WELL_BEHAVED
from muelle.engines.fake.shell import KILLED, Shell, all_of
from muelle.engines.fake.watch import Watch
from muelle.engines.protocol import Capability, NoSuchInstance, Order, Sighting, Stream

GIB = 2**30


class FakeWorld:
    """Its public methods are what may be done to it from outside; the engines use the rest."""

    def __init__(
        self, *, real_sockets: bool = False, capabilities: frozenset[Capability] = frozenset(Capability)
    ) -> None:
        self.real_sockets = real_sockets
        self.capabilities = capabilities
        self.total_bytes = 100 * GIB
        self.free_bytes = 60 * GIB
        self.agenda = Agenda()
        self.images: dict[str, KnownImage] = {}
        self.builds: set[str] = set()
        """The names of those that are being built."""
        self.mischief = Mischief()
        self._estates: dict[str, Estate] = {}
        self._watches: WeakSet[Watch] = WeakSet()
        self._numbers = itertools.count(1)

    # How it misbehaves.

    @property
    def on_step(self) -> OnStep | None:
        """Called with the name of the call and the moment, before and after each that changes something. What it raises
        goes to the caller; what it returns is waited for, if it can be."""
        return self.mischief.on_step

    @on_step.setter
    def on_step(self, told: OnStep | None) -> None:
        self.mischief.on_step = told

    def slow(self, seconds: float, *calls: str) -> None:
        """From now on these calls, or all, take so much longer."""
        self.mischief.delays.update(dict.fromkeys(calls or ("",), seconds))

    def fail(self, *calls: str, times: int | None = None, reason: str = "it was told to fail") -> None:
        """These calls, or all, raise EngineUnavailable: so many times, or until it is healed; then watches end too."""
        self.mischief.failing.append(Failing(frozenset(calls), times, reason))
        if self.mischief.refuses_always("watch"):
            self.end_watches()

    def hang(self, *calls: str) -> None:
        """These calls, or all, do not come back until it is healed."""
        self.mischief.hanging = frozenset(calls)

    def lie(self, looks: int, leave_out: Sequence[str] = (), *, stale: bool = False) -> None:
        """The next so many looks leave out these instances, or show all as they are at this moment."""
        before = {name: [one.sighting() for one in estate.of("")] for name, estate in self._estates.items()}
        self.mischief.lie = Lie(looks, frozenset(leave_out), before if stale else None)

    def heal(self) -> None:
        """Behaves again in every respect; `on_step` stays."""
        self.mischief.heal()

    def end_watches(self) -> None:
        for watch in list(self._watches):
            watch.end()

    # How others interfere with it.

    def vanish(self, name: str) -> None:
        """The instance is gone, as after `docker rm -f` by hand."""
        installation, instance = self._anywhere(name)
        self.drop(installation, instance)

    def exit(self, name: str, code: int = 1, *, out_of_memory: bool = False) -> None:
        """Its program ends, for whatever reason."""
        installation, instance = self._anywhere(name)
        if instance.runs:
            self.end(installation, instance, code, out_of_memory)

    def say(self, name: str, text: str, stream: Stream = Stream.OUT) -> None:
        """Its program prints a line."""
        self._anywhere(name)[1].say(self.agenda.now(), text, stream)

    def stranger(self, name: str, installation: str = "", workload: str = "stranger", *, runs: bool = True) -> None:
        """There is an instance that bears our label and that nobody ordered."""
        home = installation or next(iter(self._estates))
        order = Order(name, workload, "nobody", "fake/web", port=80)
        instance = self.add(home, order, known_image(order.image, WELL_BEHAVED, {}))
        if runs:
            self.start(home, instance)

    def lose_image(self, id: str) -> None:
        """It was removed by somebody else."""
        self.images.pop(id, None)
        for estate in self._estates.values():
            estate.built.pop(id, None)

    def names(self) -> list[str]:
        """The instances that there are, of all installations."""
        self.agenda.settle()
        return sorted(name for estate in self._estates.values() for name in estate.instances)

    # What the engines do with it.

    def estate(self, installation: str) -> Estate:
        return self._estates.setdefault(installation, Estate())

    def watch(self, installation: str) -> Watch:
        watch = Watch(installation)
        self._watches.add(watch)
        return watch

    def look(self, installation: str, workload: str) -> Sequence[Sighting]:
        truth = [instance.sighting() for instance in self.estate(installation).of(workload)]
        return self.mischief.told(installation, workload, truth)

    def add(self, installation: str, order: Order, image: KnownImage) -> Instance:
        instance = Instance(order, image, next(self._numbers))
        self.estate(installation).add(instance)
        self._changed(installation, instance)
        return instance

    def drop(self, installation: str, instance: Instance) -> None:
        if instance.runs:
            instance.end(self.agenda.now(), KILLED)
        self.estate(installation).drop(instance)
        self._changed(installation, instance)

    def start(self, installation: str, instance: Instance) -> None:
        now, program = self.agenda.now(), instance.program
        if refused := program.cannot_start or no_such_command(instance.order):
            instance.refuse(now, refused)
        else:
            instance.begin(now)
            self._play(installation, instance)
        self._changed(installation, instance)

    def end(self, installation: str, instance: Instance, code: int, out_of_memory: bool = False) -> None:
        instance.end(self.agenda.now(), code, out_of_memory)
        self._changed(installation, instance)

    def ask_to_end(self, installation: str, instance: Instance, seconds: float) -> None:
        """It goes on ending where whoever asked goes away meanwhile."""
        program = instance.program
        if program.heeds_stop and program.says_on_stop:
            instance.say(self.agenda.now(), program.says_on_stop)
        if program.heeds_stop and program.stops_after_seconds < seconds:
            after, code = program.stops_after_seconds, program.stop_code
        else:
            after, code = seconds, KILLED
        if after <= 0:
            self.end(installation, instance, code)
        else:
            instance.will(self.agenda, after, lambda: self.end(installation, instance, code))

    def _play(self, installation: str, instance: Instance) -> None:
        """What the program does from its start on, as far as that can be said now."""
        now, program = self.agenda.now(), instance.program
        if instance.order.command and Shell({}).knows(instance.order.command[0]):
            return self._play_command(installation, instance)
        for text in program.lines:
            instance.say(now, text)
        for text in program.error_lines:
            instance.say(now, text, Stream.ERR)
        for number in range(program.counts_to):
            instance.say(now, f"line {number}")
        for text in self._findings(installation, instance):
            instance.say(now, text)
        if self.real_sockets and instance.order.port:
            self._hang_door(instance)
        if program.ticks_every_seconds:
            self._tick(instance, 1)
        self._play_end(installation, instance)
        return None

    def _play_command(self, installation: str, instance: Instance) -> None:
        """A command was told in place of the program, and we understand it."""
        said, seconds, code = all_of(Shell(instance.environment()).run(instance.order.command))
        for one in said:
            instance.say(self.agenda.now(), one.text, one.stream)
        self._end_after(installation, instance, seconds, code)

    def _play_end(self, installation: str, instance: Instance) -> None:
        program = instance.program
        seconds, code = program.exits_after_seconds, program.exit_code
        if program.hogs_memory:
            seconds, code = seconds or 0.0, KILLED
        if seconds is not None:
            self._end_after(installation, instance, seconds, code, program.hogs_memory)

    def _end_after(
        self, installation: str, instance: Instance, seconds: float, code: int, out_of_memory: bool = False
    ) -> None:
        if seconds <= 0:
            instance.end(self.agenda.now(), code, out_of_memory)
        else:
            instance.will(self.agenda, seconds, lambda: self.end(installation, instance, code, out_of_memory))

    def _findings(self, installation: str, instance: Instance) -> list[str]:
        """What the program finds out about its surroundings."""
        program, order, estate = instance.program, instance.order, self.estate(installation)
        found = []
        if program.forks:
            found.append(f"started {min(program.forks, order.limits.pids - 1)} processes")
        if program.counts_in:
            volume = estate.volume_at(order.mounts, program.counts_in)
            counts = {} if volume is None else volume.counts
            counts[program.counts_in] = counts.get(program.counts_in, 0) + 1
            found.append(f"count {counts[program.counts_in]}")
        if program.calls:
            reached = self._reaches(estate, order.owner, order.environment.get(program.calls, ""))
            found.append("reached" if reached else "not reached")
        return found

    def _reaches(self, estate: Estate, owner: str, target: str) -> bool:
        """Whether that is a name by which the owner's own instances reach one that listens there."""
        host, _, port = target.partition(":")
        return any(
            other.runs
            and other.order.owner == owner
            and host in other.order.aliases
            and other.listens_at_its_port()
            and port == str(other.order.port)
            for other in estate.of("")
        )

    def _tick(self, instance: Instance, number: int) -> None:
        def tick() -> None:
            instance.say(self.agenda.now(), f"tick {number}")
            self._tick(instance, number + 1)

        instance.will(self.agenda, instance.program.ticks_every_seconds, tick)

    def _hang_door(self, instance: Instance) -> None:
        program = instance.program

        async def answer(path: str) -> Answer:
            if program.answers_after_seconds and self.agenda.clock is not None:
                await self.agenda.clock.sleep(program.answers_after_seconds)
            return answer_of(instance, path)

        instance.door = door = Door(answer)
        if not instance.listens_at_its_port():
            return
        if program.starts_after_seconds:
            instance.will(self.agenda, program.starts_after_seconds, door.open)
        else:
            door.open()

    def _changed(self, installation: str, instance: Instance) -> None:
        for watch in self._watches:
            if watch.installation == installation:
                watch.tell(instance.order.workload)

    def _anywhere(self, name: str) -> tuple[str, Instance]:
        self.agenda.settle()
        for installation, estate in self._estates.items():
            if name in estate.instances:
                return installation, estate.instances[name]
        raise NoSuchInstance(name=name)


def no_such_command(order: Order) -> str:
    """Why a command that was told in place of the program's cannot be started: by its name, there is none."""
    word = order.command[0] if order.command else ""
    return f'exec: "{word}": executable file not found in $PATH' if word.startswith("no-such") else ""
