"""Hidden ids: in training only, and the same for all that one step looks up."""

import torch

from models.blocks.unit_items import UnitItems
from models.contract.schema import FIRST_KNOWN
from tests.cases import SCHEMA, item_fields
from tests.models.readers.arrange import LAYOUT


def test_ids_are_hidden_in_training_alike_for_events_and_candidates():
    torch.manual_seed(0)
    items = UnitItems(item_fields(), SCHEMA.item_fields, LAYOUT, id_dropout=0.5)
    rows = torch.arange(FIRST_KNOWN, SCHEMA.num_items)[None]
    known = items.eval()(rows)[..., : LAYOUT.widths[0]].abs().sum(-1) > 0

    look_up = items.train().look_up(1)
    first, second = look_up(rows), look_up(rows)

    is_hidden = first[..., : LAYOUT.widths[0]].abs().sum(-1) == 0
    assert torch.equal(first, second)
    assert 0.2 < is_hidden[known].float().mean() < 0.8
    assert (first[..., LAYOUT.widths[0] :] == items.eval()(rows)[..., LAYOUT.widths[0] :]).all()
