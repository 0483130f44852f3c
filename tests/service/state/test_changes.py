"""Users whose records change leave the tiers, whatever reads are under way; after a gap everything does."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from models.contract.embedded_cache import start_server, stop_server
from models.contract.errors import CacheUnavailableError, CorruptRecordError
from models.contract.generation import Generation
from models.live.forget import forget_in_cache
from models.live.keys import CHANGED_KEY, tombstone
from service.generations.serving import Serving
from service.query import FoundState
from service.runtime.scorer import Scorer
from service.state.changes import ChangeReader, ChangeResult
from tests.service.state.test_counters import USERS, Lookups, ScriptedStore, record
from tests.service.state.test_local_cache import Slots
from tests.service.toy import AS_OF_S, Toy
from tests.service.world import Running, World, record_of, until

TOY = Toy()
CANDIDATES = ["i1", "i5"]
NO_RESULTS = dict.fromkeys(get_args(ChangeResult), 0)
anyio = pytest.mark.anyio


FEW = USERS[:2]
"""So few that reads and changes of one user meet."""


class VersionedStore(ScriptedStore):
    """Knows how often each record was written, now and when a read began."""

    def __init__(self) -> None:
        super().__init__()
        self.versions = dict.fromkeys(USERS, 0)
        self.at_begin: dict[asyncio.Future[bytes | None], int] = {}

    async def read(self, key: str) -> bytes | None:
        answer: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self.pending.append((key, answer))
        self.at_begin[answer] = self.versions[key.rsplit(":", 1)[1]]
        return await answer


class FreshLookups(Lookups):
    """No lookup that begins after this process was told of a change finds an older record."""

    store: VersionedStore
    cancel = time_passes = None  # type: ignore[assignment]  # these rules are tried elsewhere

    def __init__(self) -> None:
        self.told: dict[tuple[str, str], int] = {}
        self.lost = dict.fromkeys(USERS, 0)
        super().__init__()

    def make_store(self) -> VersionedStore:
        return VersionedStore()

    @rule(user_id=st.sampled_from(FEW), late=st.integers(0, 1))
    def ask(self, user_id: str, late: int) -> None:
        serving = self.servings[max(0, len(self.servings) - 1 - late)]
        told = self.told.get((serving.generation.place, user_id), 0)
        needed = max(told, self.lost[user_id])

        async def find() -> FoundState:
            found = await self.states.find(serving, user_id)
            assert found.as_of_s is None or found.as_of_s - AS_OF_S >= needed
            return found

        async def start() -> asyncio.Task[FoundState]:
            return asyncio.create_task(find())

        self.num_lookups += 1
        self.waiting.append((self.runner.run(start()), serving, user_id))
        self.turn()

    @precondition(lambda self: self.store.pending)
    @rule(at=st.integers(0, 9), seen=st.integers(0, 9), kind=st.sampled_from(["record", "down"]))
    def answer(self, at: int, kind: str, seen: int = 0) -> None:
        """Answer with any version that the record had while it was read."""
        key, answer = self.store.pending.pop(at % len(self.store.pending))
        user_id = key.rsplit(":", 1)[1]
        first, last = self.store.at_begin[answer], self.store.versions[user_id]
        if kind == "down":
            answer.set_exception(CacheUnavailableError("cache", "down"))
        else:
            version = first + seen % (last - first + 1)
            answer.set_result(record(user_id, AS_OF_S + version))
        self.turn()

    @rule(user_id=st.sampled_from(FEW))
    def write(self, user_id: str) -> None:
        self.store.versions[user_id] += 1

    @rule(user_id=st.sampled_from(FEW))
    def write_and_tell(self, user_id: str) -> None:
        self.write(user_id)
        self.tell(user_id)

    @rule(user_id=st.sampled_from(FEW))
    def tell(self, user_id: str) -> None:
        """This process reads the entries of the stream that are about a user."""
        serving = self.servings[-1].generation
        self.told[serving.place, user_id] = self.store.versions[user_id]

        async def change() -> bool:
            return self.states.changed((serving.model, serving.place, user_id))

        assert self.runner.run(change())
        self.turn()

    @rule(user_id=st.sampled_from(FEW))
    def forget(self, user_id: str) -> None:
        """This process learns that a user was forgotten, whose record nobody reads any more."""
        self.versions_change(user_id)

        async def forget() -> None:
            self.states.forget(tombstone(user_id))

        self.runner.run(forget())

    def versions_change(self, user_id: str) -> None:
        self.store.versions[user_id] += 1
        self.lost[user_id] = self.store.versions[user_id]

    @rule()
    def lose_entries(self) -> None:
        async def drop() -> None:
            self.states.drop_all()

        self.lost = dict(self.store.versions)
        self.runner.run(drop())
        self.turn()


FreshLookups.TestCase.settings = settings(
    Lookups.TestCase.settings, max_examples=20, stateful_step_count=40
)
TestFreshLookups = FreshLookups.TestCase


class FreshDeviceLookups(FreshLookups):
    """The same with a device tier in front, in which two users fit."""

    device_users = 2


FreshDeviceLookups.TestCase.settings = FreshLookups.TestCase.settings
TestFreshDeviceLookups = FreshDeviceLookups.TestCase


RACES = {
    "a lookup begun before": ("ask", "change", "answer"),
    "a prefetch begun before": ("hint", "change", "answer"),
    "a copy begun before": ("ask", "answer", "change", "copies_end"),
    "a copy that ended": ("ask", "answer", "copies_end", "change"),
}


@pytest.mark.parametrize("steps", RACES.values(), ids=RACES)
@pytest.mark.parametrize("why", ["changed", "gap", "forgotten"])
def test_a_later_lookup_finds_the_new_record(steps: tuple[str, ...], why: str):
    machine = FreshDeviceLookups()

    def change() -> None:
        machine.write("ann")
        if why == "gap":
            machine.lose_entries()
        elif why == "forgotten":
            machine.forget("ann")
        else:
            machine.tell("ann")

    actions: dict[str, Callable[[], None]] = {
        "ask": lambda: machine.ask("ann", 0),
        "hint": lambda: machine.hint(["ann"]),
        "answer": lambda: machine.answer(0, "record"),
        "change": change,
        "copies_end": machine.copies_end,
    }
    for step in (*steps, "ask"):
        actions[step]()
    machine.teardown()


def told(world: World, generation: Generation, user: str = "ann", **other: Any) -> None:
    """Append an entry, as the worker does after it has written a record."""
    fields = {"m": generation.model, "p": generation.place, "u": user, **other}
    with world.redis as client:
        client.xadd(CHANGED_KEY, {key: value for key, value in fields.items() if value is not None})


def fold(world: World, service: Running, history: list[str], user: str = "ann") -> Any:
    """Overwrite a user's record; returns the scores that it gives."""
    serving = service.selection.pick("toy")
    state = TOY.state(history)
    world.put(serving.generation.key(user), record_of(user, state, serving.artifact))
    return pytest.approx(TOY.scores(state, CANDIDATES), abs=1e-6)


def reader(service: Running) -> ChangeReader:
    return service.dependencies.tiers.changes


async def scores(service: Running, user: str = "ann") -> Any:
    return (await service.score(user, CANDIDATES, recent=[]))["scores"]


def holds(service: Running, user: str = "ann") -> bool:
    return service.dependencies.tiers.host.holds(service.selection.pick("toy"), user)


async def read(service: Running) -> None:
    await reader(service).read(0.01)


@anyio
async def test_a_changed_record_is_seen_by_the_next_request(world: World):
    generation = world.publish(TOY)
    async with world.service() as service:
        await read(service)
        before = [await scores(service), await scores(service, "bob")]
        folded = fold(world, service, ["i9"])
        old = await scores(service)
        told(world, generation)
        await read(service)
        tiers = service.dependencies.tiers
        assert (tiers.host.users.num_entries, old) == (1, before[0])
        assert await scores(service) == folded
        assert reader(service).results == {**NO_RESULTS, "dropped": 1}
        assert service.metric("absorb_state_changes_total", result="dropped") == 1
        assert service.metric("absorb_state_changes_followed") == 1
        assert service.metric("absorb_state_change_gaps_total") == 0


@anyio
async def test_a_user_without_a_record_gets_one(world: World):
    generation = world.publish(TOY)
    async with world.service(host_cache_absent_ttl_s=1e6) as service:
        await read(service)
        assert (await service.score("carl", CANDIDATES))["state"]["source"] == "miss"
        folded = fold(world, service, ["i9"], "carl")
        told(world, generation, "carl")
        await read(service)
        assert await scores(service, "carl") == folded


@anyio
async def test_the_background_task_sees_a_change_while_it_waits(world: World):
    generation = world.publish(TOY)
    async with world.service() as service:
        running = asyncio.create_task(reader(service).run())
        await until(lambda: reader(service).is_following)
        await scores(service)
        folded = fold(world, service, ["i9"])
        told(world, generation)
        await until(lambda: reader(service).results["dropped"] == 1)
        assert await scores(service) == folded
        running.cancel()


@anyio
async def test_entries_of_others_are_counted_and_change_nothing(world: World):
    generation = world.publish(TOY)
    async with world.service() as service:
        await read(service)
        await scores(service)
        told(world, generation, m="other")
        told(world, generation, p="20250101T000000Z-000000")
        wrongs: list[dict[str, Any]] = [
            {"m": None},
            {"p": None},
            {"u": None},
            {"m": "*"},
            {"p": "x"},
            {"u": b"\xff"},
        ]
        for wrong in wrongs:
            told(world, generation, **wrong)
        await read(service)
        assert reader(service).results == {**NO_RESULTS, "elsewhere": 2, "malformed": 6}
        assert service.dependencies.tiers.host.users.num_entries == 1
        assert reader(service).is_following


@anyio
async def test_a_forgotten_user_leaves_memory(world: World):
    world.publish(TOY)
    async with world.service() as service:
        await read(service)
        await scores(service)
        with world.redis as client:
            forget_in_cache(client, "ann")
        await read(service)
        assert (await service.score("ann", CANDIDATES))["state"]["source"] == "miss"
        assert reader(service).results == {**NO_RESULTS, "forgotten": 1}


@anyio
async def test_forgetting_drops_the_user_of_every_model_and_nobody_else(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Scorer, "state_memory", Slots())
    for model in ("toy", "other"):
        world.publish(TOY, model)
    async with world.service(device_cache_bytes=1000) as service:
        await read(service)
        tiers = service.dependencies.tiers
        servings = [service.selection.pick(model) for model in ("toy", "other")]
        for serving in servings:
            for user in ("ann", "bob", "nobody"):
                await tiers.states.find(serving, user)
        while tiers.device.num_waiting:
            await asyncio.sleep(0)
        with world.redis as client:
            for user in ("ann", "nobody"):
                forget_in_cache(client, user)
        await read(service)
        tiers_held = [tiers.device.held, tiers.host.held]
        await until(
            lambda: all(held(serving) == ["bob"] for held in tiers_held for serving in servings)
        )
        assert reader(service).num_gaps == 0


@anyio
async def test_a_lookup_during_the_search_finds_nothing_of_the_user(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("service.state.forgotten.SEARCHED_AT_ONCE", 1)
    world.publish(TOY)
    async with world.service() as service:
        tiers, serving = service.dependencies.tiers, service.selection.pick("toy")
        for number in range(50):
            await tiers.states.find(serving, f"nobody {number}")
        before = await tiers.states.find(serving, "ann")
        with world.redis as client:
            client.delete(serving.generation.key("ann"))
        tiers.states.forget(tombstone("ann"))
        after = await tiers.states.find(serving, "ann")  # looks into the tiers before the search
        assert (before.source, after.source) == ("hit", "miss")
        assert tiers.host.users.names(serving) == []
        others = [f"nobody {number}" for number in range(50)]
        await asyncio.sleep(0.05)  # the search ends
        assert set(others) <= set(tiers.host.held(serving))


def trim(world: World, generation: Generation) -> None:
    for _ in range(3):
        told(world, generation, "bob")
    with world.redis as client:
        client.xtrim(CHANGED_KEY, maxlen=1, approximate=False)


def trim_to_nothing(world: World, generation: Generation) -> None:
    told(world, generation, "bob")
    with world.redis as client:
        client.xtrim(CHANGED_KEY, maxlen=0, approximate=False)


def lose(world: World, generation: Generation) -> None:
    with world.redis as client:
        client.delete(CHANGED_KEY)


def begin_again(world: World, generation: Generation) -> None:
    with world.redis as client:
        client.delete(CHANGED_KEY)
        client.xadd(CHANGED_KEY, {"m": "toy"}, id="1-1")


def kill_connections(world: World, generation: Generation) -> None:
    with world.redis as client:
        client.client_kill_filter(_type="normal", skipme=True)


@anyio
@pytest.mark.parametrize("harm", [trim, trim_to_nothing, lose, begin_again, kill_connections])
async def test_a_gap_drops_everything(world: World, harm: Any):
    generation = world.publish(TOY)
    told(world, generation, "bob")
    async with world.service() as service:
        await read(service)
        await scores(service)
        folded = fold(world, service, ["i9"])
        harm(world, generation)
        for _ in range(2):
            try:
                await read(service)
            except CacheUnavailableError:
                assert harm is kill_connections
        assert reader(service).num_gaps == 1
        assert await scores(service) == folded
        await read(service)
        assert reader(service).num_gaps == 1
        before = reader(service).results["dropped"]
        told(world, generation)
        await read(service)
        assert reader(service).results["dropped"] == before + 1


@anyio
async def test_a_stream_that_overflows_before_the_first_read_is_a_gap(world: World):
    generation = world.publish(TOY)
    async with world.service() as service:
        await read(service)
        await scores(service)
        trim(world, generation)
        await read(service)
        assert reader(service).num_gaps == 1
        assert not holds(service)


@anyio
async def test_more_entries_than_one_read_returns(world: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("service.store.changes.MAX_ENTRIES", 4)
    generation = world.publish(TOY)
    async with world.service() as service:
        await read(service)
        for _ in range(10):
            told(world, generation)
        for _ in range(3):
            await read(service)
        assert reader(service).results["dropped"] == 10
        assert reader(service).num_gaps == 0


@anyio
async def test_a_restarted_cache_drops_everything(own_cache: Path, tmp_path: Path):
    world = World(f"unix://{own_cache}/valkey.sock", tmp_path / "artifacts")
    world.publish(TOY)
    async with world.service() as service:
        running = asyncio.create_task(reader(service).run())
        await until(lambda: reader(service).is_following)
        await scores(service)
        await asyncio.to_thread(stop_server, own_cache)
        await until(lambda: not reader(service).is_following)
        kept = await service.score(candidates=CANDIDATES)
        await asyncio.to_thread(start_server, own_cache)
        await until(lambda: reader(service).is_following)
        assert kept["state"]["tier"] == "host"
        assert not holds(service)
        assert reader(service).num_gaps == 1
        assert service.metric("absorb_state_change_gaps_total") == 1
        running.cancel()


@anyio
async def test_a_key_of_another_type_is_an_error_until_it_is_a_stream(world: World):
    world.publish(TOY)
    world.put(CHANGED_KEY, b"no stream")
    async with world.service() as service:
        with pytest.raises(CorruptRecordError):
            await read(service)
        assert not reader(service).is_following
        await scores(service)
        with world.redis as client:
            client.delete(CHANGED_KEY)
        await read(service)
        assert reader(service).is_following
        assert not holds(service)


@anyio
async def test_a_read_that_began_before_the_change_is_not_stored(world: World):
    generation = world.publish(TOY)
    async with world.service() as service:
        await read(service)
        tiers = service.dependencies.tiers
        serving: Serving = service.selection.pick("toy")
        gate = asyncio.Event()
        inner = tiers.store.read

        async def slow(key: str) -> bytes | None:
            raw = await inner(key)
            await gate.wait()
            return raw

        tiers.store.read = slow  # type: ignore[method-assign]
        early = [asyncio.create_task(tiers.states.find(serving, "ann")) for _ in range(2)]
        await asyncio.sleep(0.05)
        fold(world, service, ["i9"])
        told(world, generation)
        await read(service)
        late = asyncio.create_task(tiers.states.find(serving, "ann"))
        await asyncio.sleep(0.05)
        gate.set()
        found: Mapping[str, Any] = {"early": await early[0], "joined": await early[1]}
        new = TOY.state(["i9"])["length"]
        assert found["early"] is not None
        assert (found["joined"].state["length"] != new).all()
        assert ((await late).state["length"] == new).all()
        cached = tiers.host.get(serving, "ann")
        assert cached is not None
        assert (cached.state["length"] == new).all()  # type: ignore[union-attr]
