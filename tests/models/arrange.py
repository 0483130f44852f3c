"""Set-up that tests of several models share."""

import torch

from models.registry import build_model
from models.sequence.suan import SUAN
from tests.cases import SCHEMA, SIZES, item_fields

KEYS = ("item_dim", "field_dim", "heads", "mlp")


def suan(name: str = "suan", **config: object) -> SUAN:
    """A model in double precision, whose weights all change the score."""
    model = build_model(
        name, SCHEMA, item_fields(), {**{key: SIZES[key] for key in KEYS}, "blocks": 3, **config}
    )
    assert isinstance(model, SUAN)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in (*model.bias.parameters(), model.places):
            parameter.normal_()
    return model.double().eval()
