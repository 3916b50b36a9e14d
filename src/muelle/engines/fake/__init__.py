"""An engine that runs nothing and pretends everything: for trying Muelle out, and for tests that must not be slow.

    world = FakeWorld()                                  # outlives the engine, as a Docker engine outlives Muelle
    engine = FakeEngine(clock, "home", world)
    image = await engine.resolve("fake/crash-after-3", None, say)

What an instance does is a `Program`. `fake/<words>` names one (`program.NAMED`, `program.PATTERNS`): `fake/web`,
`fake/worker`, `fake/job`, `fake/crash`, `fake/crash-after-3`, `fake/exit-7`, `fake/deaf`, `fake/wrong-port`,
`fake/answers-500`, `fake/slow-start-2`, `fake/slow-answers-2`, `fake/slow-stop-2`, `fake/memory-hog`, `fake/stubborn`,
`fake/chatty`, `fake/lines-100`, `fake/busy`, `fake/port-3000`, `fake/unstartable`. `missing/…` is not to be had; any
other reference is a web server that behaves well and says that it listens on 80. A build reads `program.json` beside
the source, and runs the few words of a shell that `shell` knows. A command told in place of the program is run by that
shell where it knows it, cannot be started where it begins with `no-such`, and else changes nothing.

With `FakeWorld(real_sockets=True)` a program that listens answers HTTP on a port of the loopback, with a description of
itself or the files of its site. Without, an address is told and nobody is there.

A world misbehaves when asked to: `slow`, `fail`, `hang`, `lie`, `on_step`, until `heal`; and others interfere with it
by `vanish`, `exit`, `say`, `stranger`, `lose_image`, `end_watches`. Time is the clock's alone.
"""

from muelle.engines.fake.engine import FakeEngine
from muelle.engines.fake.mischief import Moment
from muelle.engines.fake.program import Program
from muelle.engines.fake.world import FakeWorld

__all__ = ["FakeEngine", "FakeWorld", "Moment", "Program"]
