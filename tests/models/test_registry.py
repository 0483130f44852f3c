"""Models by name."""

import pytest

from models.contract.errors import UnknownModelError
from models.registry import build_model
from models.sequence.lrea import LREA
from tests.cases import SCHEMA, item_fields


def test_an_unknown_model_names_the_known_ones():
    message = r"'lrae', expected one of: deep_fm, .*; did you mean 'lrea'"
    with pytest.raises(UnknownModelError, match=message):
        build_model("lrae", SCHEMA, item_fields(), {})


def test_a_config_may_come_from_json():
    config = {"unmatched": ["popularity"], "rank": 8, "mlp": [4]}
    model = build_model("lrea", SCHEMA, item_fields(), config)
    assert isinstance(model, LREA)
    assert (model.config.unmatched, model.config.mlp) == (("popularity",), (4,))
