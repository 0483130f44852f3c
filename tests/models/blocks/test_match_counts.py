"""Counts of a candidate's matches in a history, against a loop."""

import torch

from models.blocks.match_counts import MatchCounts
from tests.cases import SCHEMA, item_fields, random_batch


def test_matches_are_counted_in_the_whole_history():
    """Events that share the candidate's row or its category; unknown values match nothing."""
    fields, batch = item_fields(), random_batch(candidates=20)
    counted = MatchCounts(fields, SCHEMA.item_fields)(batch.slate.items, batch.user.history)
    assert counted.shape[-1] == 2
    for b, slate in enumerate(batch.slate.items.tolist()):
        past = [row for row in batch.user.history[b].tolist() if row]
        for c, row in enumerate(slate):
            category = int(fields[row, 1])
            same_item = past.count(row) if row > 1 else 0
            same_category = sum(int(fields[e, 1]) == category for e in past) if category > 1 else 0
            expected = torch.tensor([same_item, same_category]).log1p()
            torch.testing.assert_close(counted[b, c], expected)
