"""LREA's slots by position against the paper's equations as loops."""

import torch

from models.blocks.attention.target_score import TargetScore
from models.blocks.reading import Events
from models.readers.base import State
from models.readers.position_slots import Graph, Init, PositionSlots
from tests.models.readers.arrange import (
    LAYOUT,
    LENGTH,
    assert_equals_loops,
    candidates,
    history,
    read,
    same,
    settled,
)
from tests.reference.attention import Weights, attend, multiply, non_negativity


def slots(graph: Graph = "absorbed", init: Init = "gaussian", nonneg: float = 0.0) -> PositionSlots:
    torch.manual_seed(0)
    reader = PositionSlots(
        length=LENGTH,
        rank=4,
        score=TargetScore(LAYOUT.widths, hidden=6, heads=2, slope=0.1),
        dim=LAYOUT.dim,
        graph=graph,
        init=init,
        nonneg=nonneg,
    )
    return reader.double() if init == "block" else settled(reader)  # type: ignore[return-value]


def weights(reader: PositionSlots) -> Weights:
    names = ("w_1", "w_2", "w_3", "bias", "w_o")
    return Weights(**{name: getattr(reader.score, name).tolist() for name in names}, slope=0.1)


def test_the_state_equals_equation_4():
    reader, events = slots(), history()
    state, worth = reader.encode(events), reader.ages(events.ages)
    for user in range(len(events.rows)):
        rows = events.vectors[user].tolist()
        same(state["e_comp"][user], multiply(reader.w_comp.tolist(), rows))
        aged = (events.vectors[user] * worth[user]).tolist()
        same(state["e_auxabsorb"][user], multiply(reader.w_decomp.tolist(), aged))
        loads = multiply(reader.w_decomp.tolist(), worth[user].tolist())
        same(state["slot_loads"][user], [load[0] for load in loads])


def test_the_absorbed_form_equals_equation_9():
    reader, events, wanted = slots(), history(), candidates()
    state = reader.encode(events)
    # The size of a pooled vector counts |load|, so the reference gets positive loads.
    positive = {**state, "slot_loads": state["slot_loads"].abs()}
    got = reader.read(State(positive, events.look_up), wanted)
    assert_equals_loops(
        got,
        events,
        wanted,
        lambda user, target: attend(
            weights(reader),
            target,
            state["e_comp"][user].tolist(),
            state["e_auxabsorb"][user].tolist(),
            positive["slot_loads"][user].tolist(),
            [[0.0] * 6] * reader.rank,
        ),
    )


def test_the_decompressed_form_equals_equation_5():
    reader, events, wanted = slots("decompressed"), history(), candidates()
    state = State(reader.encode(events), events.look_up, events)
    restored = reader.w_decomp.mT @ state["e_comp"]
    worth = reader.ages(events.ages)
    aged = events.vectors * worth
    assert_equals_loops(
        reader.train_read(state, wanted).read,
        events,
        wanted,
        lambda user, target: attend(
            weights(reader),
            target,
            restored[user].tolist(),
            aged[user].tolist(),
            worth[user, :, 0].tolist(),
            [[0.0] * 6] * LENGTH,
        ),
    )
    assert not reader.trains_what_it_serves


def test_the_penalty_equals_equation_10():
    reader, events = slots(nonneg=0.7), history()
    state = State(reader.encode(events), events.look_up, events)
    penalty = reader.train_read(state, candidates()).penalty
    assert penalty is not None
    users = state["e_comp"].tolist()
    same(penalty, 0.7 * non_negativity(reader.w_decomp.tolist(), users))
    assert slots().train_read(state, candidates()).penalty is None


def test_a_history_without_its_padding_reads_the_same():
    reader, events, wanted = slots(), history(), candidates()
    expected = read(reader, events, wanted)
    some = [2]  # users whose histories are shorter than the window
    longest = int((events.rows[some] > 0).sum(1).max())
    short = Events(events.rows[some, -longest:], events.ages[some, -longest:], events.look_up)
    got = reader.encode(short)
    for name, value in reader.encode(events).items():
        torch.testing.assert_close(got[name], value[some])
    assert longest < LENGTH
    assert expected.mass.isfinite().all()


def test_blocks_start_as_poolings_of_neighbouring_events():
    reader = slots(init="block")
    assert torch.equal(reader.w_decomp.sum(0), torch.ones(LENGTH, dtype=torch.float64))
    torch.testing.assert_close(reader.w_comp.sum(1), torch.ones(4, dtype=torch.float64))
    assert (reader.w_decomp.argmax(0).diff() >= 0).all()
