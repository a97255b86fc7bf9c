"""Leases: one holder a name, whoever dies, sleeps or comes late."""

from __future__ import annotations

import json
import mmap
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gridrun.errors import StoreError
from gridrun.store import Store, leases
from gridrun.store.leases import DURATION_SECONDS, Claim, Leases
from trainer import files

ROOT = Path(__file__).parent.parent
ELSEWHERE = {"host": "elsewhere", "kernel": "another", "pid": 1, "started": 1}


class Clock:
    """A machine's own clock."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def watch(asker: Leases, clock: Clock, seconds: float) -> Claim | None:
    """Ask again and again for so long, until the name is free."""
    end = clock.now + seconds
    while (claim := asker.claim("x")) is None and clock.now < end:
        clock.now += 1
    return claim


def test_a_lease_is_one_holder_at_a_time_and_leaves_no_file(tmp_path: Path) -> None:
    here, there = Leases(tmp_path), Leases(tmp_path, owner=ELSEWHERE)
    first = here.claim("x")
    assert first
    assert first.held()
    assert there.claim("x") is None
    assert there.claim("y"), "another name is free"
    first.release()
    assert there.claim("x")


def test_a_name_is_held_within_its_block_and_who_waits_is_next(tmp_path: Path) -> None:
    here = Leases(tmp_path / "not" / "there" / "yet")
    with here.hold("x") as claim, here.hold("x") as second:
        assert claim
        assert second is None
    assert not here.names()
    claim = here.claim("x")
    assert claim
    threading.Timer(0.05, claim.release).start()
    with here.hold("x", wait=True) as waited:
        assert waited
        assert not claim.held()
        assert here.names() == {"x"}
    assert not here.names()


def test_many_names_are_claimed_with_two_looks_at_the_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there, iterdir, looks = Leases(tmp_path), Leases(tmp_path, owner=ELSEWHERE), Path.iterdir, 0

    def counted(path: Path) -> Iterator[Path]:
        nonlocal looks
        looks += 1
        return iterdir(path)

    assert there.claim("b")
    (tmp_path / "c.0").write_text(json.dumps({**leases._this_process(), "pid": 2**22 + 1}))
    monkeypatch.setattr(Path, "iterdir", counted)
    with here.hold_all(["a", "b", "c"]) as held:
        assert held == {"a", "c"}
        assert looks == 2
        assert there.claim("a") is None
    assert [path.stem for path in tmp_path.iterdir()] == ["b"]


def test_of_many_names_none_is_left_if_one_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = files.write_in_place

    def full(path: Path, text: str) -> None:
        if len(list(tmp_path.iterdir())) == 2:
            raise OSError(28, "No space left on device", str(path))
        write(path, text)

    monkeypatch.setattr(files, "write_in_place", full)
    with pytest.raises(OSError, match="No space"), Leases(tmp_path).hold_all(["a", "b", "c"]):
        pass
    assert not list(tmp_path.iterdir())


def test_what_a_dead_process_left_takes_nothing_from_a_live_one(tmp_path: Path) -> None:
    holder = Leases(tmp_path).claim("x")
    assert holder
    me = leases._this_process()
    for token in "0", "z":  # before and behind the other by name
        (tmp_path / f"x.{token}").write_text(json.dumps({**me, "started": me["started"] - 1}))
    assert Leases(tmp_path).claim("x") is None
    assert holder.held()


def test_what_a_silent_machine_holds_is_taken_over_and_it_learns_of_it(tmp_path: Path) -> None:
    silent = Leases(tmp_path, owner=ELSEWHERE).claim("x")
    clock = Clock()
    asker = Leases(tmp_path, clock=clock)
    assert silent
    assert watch(asker, clock, DURATION_SECONDS - 1) is None
    assert watch(asker, clock, 1)
    assert not silent.held()
    silent.release()
    assert Leases(tmp_path).claim("x") is None, "the one that lost it takes nothing away"


def test_a_sign_of_life_starts_the_wait_anew(tmp_path: Path) -> None:
    alive = Leases(tmp_path, owner=ELSEWHERE).claim("x")
    clock = Clock()
    asker = Leases(tmp_path, clock=clock)
    assert alive
    for _ in range(5):
        assert watch(asker, clock, DURATION_SECONDS - 2) is None
        assert alive.held()


def test_who_slept_itself_has_not_watched(tmp_path: Path) -> None:
    Leases(tmp_path, owner=ELSEWHERE).claim("x")
    clock = Clock()
    asker = Leases(tmp_path, clock=clock)
    assert asker.claim("x") is None
    clock.now += 100 * DURATION_SECONDS
    assert asker.claim("x") is None


def test_a_file_that_says_nothing_is_a_holder_until_it_is_silent(tmp_path: Path) -> None:
    (tmp_path / "x.0123").write_text("")
    (tmp_path / "x.4567").write_text("[")
    clock = Clock()
    asker = Leases(tmp_path, clock=clock)
    assert watch(asker, clock, DURATION_SECONDS - 2) is None
    assert watch(asker, clock, 4)


def test_of_two_processes_that_find_a_lease_dead_either_removes_it(tmp_path: Path) -> None:
    path, now = tmp_path / "x.4567", 0.0
    path.write_text("[")

    def clock() -> float:
        if now >= DURATION_SECONDS:  # the other one has just looked, too
            path.unlink(missing_ok=True)
        return now

    asker = Leases(tmp_path, clock=clock)
    while asker.is_held("x"):
        assert now < 2 * DURATION_SECONDS
        now += 1
    assert now >= DURATION_SECONDS
    assert asker.claim("x")


@pytest.mark.parametrize("has_room_for_a_name", [True, False])
def test_a_lease_that_a_full_disk_has_no_room_for_leaves_no_name(
    has_room_for_a_name: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, *_: object, **__: object) -> None:
        if has_room_for_a_name:
            path.touch()
        raise OSError(28, "No space left on device", str(path))

    store = Store(tmp_path)
    store.create()
    monkeypatch.setattr("trainer.files.write_in_place", full)
    with pytest.raises(StoreError, match="No space left on device"), store.lock("x"):
        pass
    monkeypatch.undo()
    with store.lock("x") as claim:
        assert claim, "and nobody has to wait for it"


def test_one_thread_renews_all_that_a_process_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "_TOUCH_SECONDS", 0.01)
    monkeypatch.setattr(leases, "_heart", leases._Heart())
    before = threading.active_count()
    claims = [Leases(tmp_path).claim(name) for name in "abc"]
    assert all(claims)
    assert threading.active_count() == before + 1
    for _ in range(2):
        for path in tmp_path.iterdir():
            os.utime(path, (0, 0))
        while not all(path.stat().st_mtime for path in tmp_path.iterdir()):
            time.sleep(0.01)  # one that is renewed no more makes this test hang
    for claim in claims:
        assert claim
        claim.release()
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # of Python 3.12
def test_a_forked_process_renews_what_it_holds_itself_and_nothing_of_its_parents(tmp_path: Path) -> None:
    assert Leases(tmp_path).claim("parent")
    child = os.fork()
    if not child:
        own = Leases(tmp_path).claim("child")
        os._exit(0 if leases._heart.claims == {own} else 1)
    assert os.waitpid(child, 0)[1] == 0


class Machines(RuleBasedStateMachine):
    """Four machines with clocks of their own, one name; each works, sleeps, dies as it likes."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.clocks = [Clock() for _ in range(4)]
        self.machines = [
            Leases(Path(self.directory.name), clock=clock, owner={**ELSEWHERE, "kernel": str(number)})
            for number, clock in enumerate(self.clocks)
        ]
        self.claims: dict[int, Claim] = {}
        self.asleep: set[int] = set()

    def teardown(self) -> None:
        for claim in self.claims.values():
            leases._heart.claims.discard(claim)
        self.directory.cleanup()

    @rule(machine=st.integers(0, 3))
    def ask(self, machine: int) -> None:
        if machine in self.asleep or machine in self.claims:
            return
        if claim := self.machines[machine].claim("x"):
            holders = {
                other for other, held in self.claims.items() if other not in self.asleep and held.held()
            }
            assert not holders, "somebody awake had it"
            self.claims[machine] = claim

    @rule(machine=st.integers(0, 3))
    def let_go(self, machine: int) -> None:
        if machine not in self.asleep and (claim := self.claims.pop(machine, None)):
            claim.release()

    @rule(machine=st.integers(0, 3))
    def sleep(self, machine: int) -> None:
        self.asleep.add(machine)

    @precondition(lambda self: self.asleep)
    @rule(machine=st.integers(0, 3))
    def wake(self, machine: int) -> None:
        self.asleep.discard(machine)

    @rule(steps=st.integers(1, 20))
    def time_passes(self, steps: int) -> None:
        """Let who is awake touch what it holds, as often as it would, and ask for what it does not."""
        for _ in range(steps):
            for machine, clock in enumerate(self.clocks):
                clock.now += 5 + machine / 10  # no two clocks run alike
                if machine not in self.asleep:
                    if machine in self.claims and not self.claims[machine].held():
                        del self.claims[machine]
                    self.ask(machine)

    @invariant()
    def one_at_most_can_leave_something_that_lasts(self) -> None:
        held = [claim for claim in self.claims.values() if claim._path.exists()]
        assert len(held) <= 1


TestMachines = Machines.TestCase
TestMachines.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


# --- processes -----------------------------------------------------------------------------------


def script(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


RACE = """
import os, sys, time
from pathlib import Path
from gridrun.store.leases import Leases
directory, me = Path(sys.argv[1]), sys.argv[2]
leases = Leases(directory, owner={"kernel": me, "pid": 1, "started": 1})
won = 0
while won < 50:
    if claim := leases.claim("x"):
        handle = os.open(directory / "inside", os.O_CREAT | os.O_EXCL)
        os.close(handle)
        os.unlink(directory / "inside")
        won += 1
        claim.release()
    time.sleep(0.001)
print(won)
"""


def test_processes_that_race_are_never_inside_together(tmp_path: Path) -> None:
    racers = [script(RACE, tmp_path, number) for number in range(3)]
    for racer in racers:
        assert racer.communicate()[0].strip() == "50"
        assert racer.returncode == 0


HOLD = """
import sys
from pathlib import Path
from gridrun.store.leases import Leases
claim = Leases(Path(sys.argv[1])).claim("x")
print(bool(claim), flush=True)
for line in sys.stdin:
    print(claim.held(), flush=True)
"""


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def test_a_killed_process_of_this_machine_is_taken_over_at_once(tmp_path: Path) -> None:
    holder = script(HOLD, tmp_path)
    assert said(holder) == "True"
    assert Leases(tmp_path).claim("x") is None
    holder.kill()
    os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)
    assert Leases(tmp_path).claim("x"), "though its parent has not asked yet how it ended"
    holder.communicate()


def test_a_paused_process_of_this_machine_keeps_what_it_holds(tmp_path: Path) -> None:
    holder = script(HOLD, tmp_path)
    assert said(holder) == "True"
    holder.send_signal(signal.SIGSTOP)
    clock = Clock()
    assert watch(Leases(tmp_path, clock=clock), clock, 3 * DURATION_SECONDS) is None
    holder.kill()
    holder.communicate()


END_THE_FIRST_THREAD = """
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(1000,)).start()
print("begun", flush=True)
ctypes.CDLL(None).pthread_exit(None)
"""


def test_a_process_lives_until_its_last_thread_has_ended(tmp_path: Path) -> None:
    holder = script(END_THE_FIRST_THREAD)
    assert said(holder) == "begun"
    of_holder = {"pid": holder.pid, "started": leases._started(holder.pid)}
    (tmp_path / "x.0").write_text(json.dumps({**leases._this_process(), **of_holder}))
    while b") Z" not in Path(f"/proc/{holder.pid}/stat").read_bytes():
        time.sleep(0.01)
    assert Leases(tmp_path).claim("x") is None
    holder.kill()
    os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)
    assert Leases(tmp_path).claim("x")
    holder.communicate()


def test_a_process_that_may_not_be_looked_at_is_alive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As other users' are where /proc is mounted with `hidepid`."""

    def denied(pid: int, number: int) -> None:
        raise PermissionError

    (tmp_path / "x.0").write_text(json.dumps({**leases._this_process(), "pid": 2**22 + 1}))
    with monkeypatch.context() as hidden:
        hidden.setattr(os, "kill", denied)
        assert Leases(tmp_path).claim("x") is None
    assert Leases(tmp_path).claim("x")


HOLD_IN_STORE = """
import sys
from gridrun.store import Store
with Store(sys.argv[1]).lock("0123456789abcdef") as claim:
    print(bool(claim), flush=True)
    sys.stdin.read()
"""


def test_what_killed_processes_left_goes_and_what_live_ones_hold_stays(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.create()
    killed = script(HOLD_IN_STORE, tmp_path)
    assert said(killed) == "True"
    killed.kill()
    killed.communicate()
    assert len(list(tmp_path.glob(".work/leases/*"))) == 1
    assert Leases(tmp_path / ".work/leases", owner=ELSEWHERE).claim("elsewhere")
    store.clear_locks()
    assert [path.name.partition(".")[0] for path in tmp_path.glob(".work/leases/*")] == ["elsewhere"]


def test_a_process_id_that_is_used_again_is_not_the_holder(tmp_path: Path) -> None:
    me = leases._this_process()
    (tmp_path / "x.0").write_text(json.dumps(me))
    grown = mmap.mmap(-1, 2**26)  # what /proc says of a process changes, but for its start
    assert Leases(tmp_path).claim("x") is None
    grown.close()
    (tmp_path / "x.0").write_text(json.dumps({**me, "started": me["started"] - 1}))
    assert Leases(tmp_path).claim("x")
    assert leases._started(os.getppid()) != me["started"], "each has a start of its own"


# --- two machines and one results directory -----------------------------------------------------------


TRAIN = """
import sys, time
from pathlib import Path
sys.path.insert(0, "tests")
from gridrun.store import leases
leases.kernel = lambda: sys.argv[2]
leases.DURATION_SECONDS, leases._TOUCH_SECONDS = 2.0, 0.2
import tiny
from gridrun.sweep import worker
from gridrun.store.records import Provenance
from gridrun.store import Store
from gridrun.trial import Trial
from trainer import Runtime
worker._HELD_POLL_SECONDS = 0.2
results, epochs = Path(sys.argv[1]), int(sys.argv[3])
setup = worker.Setup(results=results, runtime=Runtime(cache_dir=Path(sys.argv[4]), checkpoint_seconds=0.1),
                     code=Provenance(), stop_file=results / "stop")
trial = Trial(tiny.config(epochs=epochs), 0)
print(trial.trial_id, flush=True)
first = lambda epoch: print("epoch", flush=True) if epoch.epoch % 100 == 1 else None
store = Store(results)
while True:
    if store.is_locked(trial.trial_id):
        time.sleep(0.1)
        continue
    outcome = worker.run_trial(trial, setup, first)
    print(outcome, flush=True)
    if outcome != "busy" or len(sys.argv) > 5:
        break
"""


@pytest.mark.slow
@pytest.mark.parametrize("end", ["killed", "paused"])
def test_a_trial_of_a_machine_that_fell_silent_is_trained_by_another_and_recorded_once(
    end: str, tmp_path: Path, cache_dir: Path
) -> None:
    store = Store(tmp_path / "results")
    store.create()
    silent = script(TRAIN, store.root, "one kernel", 600, cache_dir, "leave it when it is another's")
    trial_id = said(silent)
    assert [said(silent), said(silent)] == ["epoch", "epoch"], "and a checkpoint in between"
    silent.send_signal(signal.SIGKILL if end == "killed" else signal.SIGSTOP)
    taker = script(TRAIN, store.root, "another kernel", 600, cache_dir)
    assert said(taker) == trial_id
    assert said(taker) == "epoch"
    if end == "paused":
        silent.send_signal(signal.SIGCONT)
        assert silent.communicate()[0].split()[-1] == "busy"
    else:
        silent.communicate()
    assert taker.communicate()[0].split()[-1] == "done"
    row = store.rows()[trial_id]
    assert (row["status"], row["resumes"]) == ("done", 1), "it went on from the checkpoint"
    assert not list(store.root.glob(".work/leases/*"))
