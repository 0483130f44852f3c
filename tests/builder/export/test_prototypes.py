"""An artifact holds a row for each combination of item fields that training has seen."""

from dataclasses import replace

import numpy as np
import pytest

from builder.export.precompute import precompute
from builder.export.prototypes import make_prototypes, masks, with_prototypes
from models.contract.artifact import load_artifact
from models.contract.schema import FIRST_KNOWN, PADDING, UNKNOWN
from models.contract.vocabulary import Vocabulary
from tests.builds import Builds
from tests.cases import Case

CASE = Case("lrea", "items")


def test_combinations_are_all_first_last_and_single_fields():
    assert masks(1).tolist() == [[1]]
    assert masks(2).tolist() == [[0, 1], [1, 0], [1, 1]]
    assert masks(4).tolist() == [
        [0, 0, 0, 1], [0, 0, 1, 0], [0, 0, 1, 1], [0, 1, 0, 0], [0, 1, 1, 1],
        [1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1],
    ]  # fmt: skip


def test_a_build_has_the_categories_that_training_has_seen(builds: Builds):
    events, artifact = builds.events, builds.artifact(CASE)
    prototypes = artifact.vocabulary.prototypes
    assert prototypes is not None
    seen = np.unique(np.asarray(events.item_fields)[np.asarray(events.train_popularity) > 0, 1])
    assert sorted(row for (row,) in prototypes.rows) == seen[seen > UNKNOWN].tolist()
    assert prototypes.fields == {"category": events.item_values["category"]}
    assert artifact.manifest.schema.num_items == events.schema.num_items + len(prototypes)
    assert artifact.log_schema == events.schema
    assert artifact.vocabulary.items == list(events.vocabulary.items)


def test_a_value_that_only_untrained_items_have_gets_no_prototype(builds: Builds):
    events = builds.events
    trained = np.asarray(events.train_popularity).copy()
    trained[np.asarray(events.item_fields)[:, 1] == FIRST_KNOWN] = 0
    prototypes = make_prototypes(replace(events, train_popularity=trained))
    assert prototypes is not None
    assert (FIRST_KNOWN,) not in prototypes.rows
    assert (FIRST_KNOWN + 1,) in prototypes.rows


def test_there_are_at_most_as_many_prototypes_as_items(builds: Builds):
    events = builds.events
    few = Vocabulary(events.vocabulary.items[:3], {}, {})
    every = make_prototypes(events)
    prototypes = make_prototypes(replace(events, vocabulary=few))
    assert every is not None
    assert prototypes is not None
    assert len(prototypes) == 3 < len(every)
    ids = np.asarray(events.item_fields)[np.asarray(events.train_popularity) > 0, 1]
    counts = np.bincount(ids)
    least = min(counts[row] for (row,) in prototypes.rows)
    assert least >= max(counts[row] for (row,) in every.rows if (row,) not in prototypes.rows)


def test_events_without_fields_or_saved_without_values_give_none(builds: Builds):
    events = builds.events
    assert make_prototypes(replace(events, item_values={})) is None
    schema = replace(events.schema, item_fields=events.schema.item_fields[:1])
    assert make_prototypes(replace(events, schema=schema)) is None


def test_a_prototype_has_no_id_and_the_lowest_popularity_of_training(builds: Builds):
    events, checkpoint = builds.events, builds.checkpoint(CASE)
    prototypes = make_prototypes(events)
    assert prototypes is not None
    wide = with_prototypes(checkpoint, events, prototypes)
    catalogue = wide.weights["frame.items.item_fields"].numpy()
    added = catalogue[events.schema.num_items :]
    trained = catalogue[: events.schema.num_items][np.asarray(events.train_popularity) > 0]
    assert (added[:, 0] == PADDING).all()
    assert (added[:, 2] == trained[:, 2].min()).all()
    assert with_prototypes(checkpoint, events, None) is checkpoint
    assert checkpoint.schema == events.schema  # the checkpoint itself stays as it was trained


def test_users_of_the_log_are_encoded_with_the_wider_catalogue(builds: Builds):
    record = next(precompute(builds.artifact(CASE), builds.events, 1))
    assert record.user_id == builds.events.user_ids[0]


def test_a_catalogue_that_does_not_fit_its_prototypes_is_refused(builds: Builds):
    artifact = builds.artifact(CASE)
    loaded = load_artifact(artifact.path.parent, artifact.artifact_id)
    loaded.vocabulary.check(loaded.manifest.schema)
    narrow = replace(loaded.vocabulary, prototypes=None)
    with pytest.raises(ValueError, match="vocabulary, items"):
        narrow.check(loaded.manifest.schema)
