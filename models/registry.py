"""Every model by name, in one literal dict. To add a model, add a line here, its file and a recipe."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from models.base import CtrModel
from models.contract.errors import UnknownModelError
from models.contract.schema import FeatureSchema
from models.field.deep_fm import DeepFM, DeepFMConfig
from models.field.final_mlp import FinalMLP, FinalMLPConfig
from models.field.fm import FM, FMConfig
from models.field.fmfm import FmFM, FmFMConfig
from models.field.fwfm import FwFM, FwFMConfig
from models.field.wukong import WuKong, WuKongConfig
from models.sequence.din import DIN, DINConfig
from models.sequence.eta import ETA, ETAConfig
from models.sequence.light_suan import LightSUAN, LightSUANConfig
from models.sequence.linear_attention import LinearAttention, LinearAttentionConfig
from models.sequence.lrea import LREA, LREAConfig
from models.sequence.mean_pool import MeanPool, MeanPoolConfig
from models.sequence.sdim import SDIM, SDIMConfig
from models.sequence.sim import SIM, SIMConfig
from models.sequence.suan import SUAN, SUANConfig
from models.sequence.twin import TWIN, TWINConfig


@dataclass(frozen=True)
class ModelEntry:
    """A model class and its config class."""

    config: type[Any]
    model: type[CtrModel]


MODELS: dict[str, ModelEntry] = {
    "lrea": ModelEntry(LREAConfig, LREA),
    "din": ModelEntry(DINConfig, DIN),
    "sim": ModelEntry(SIMConfig, SIM),
    "eta": ModelEntry(ETAConfig, ETA),
    "sdim": ModelEntry(SDIMConfig, SDIM),
    "twin": ModelEntry(TWINConfig, TWIN),
    "linear_attention": ModelEntry(LinearAttentionConfig, LinearAttention),
    "suan": ModelEntry(SUANConfig, SUAN),
    "light_suan": ModelEntry(LightSUANConfig, LightSUAN),
    "mean_pool": ModelEntry(MeanPoolConfig, MeanPool),
    "fm": ModelEntry(FMConfig, FM),
    "deep_fm": ModelEntry(DeepFMConfig, DeepFM),
    "fwfm": ModelEntry(FwFMConfig, FwFM),
    "fmfm": ModelEntry(FmFMConfig, FmFM),
    "final_mlp": ModelEntry(FinalMLPConfig, FinalMLP),
    "wukong": ModelEntry(WuKongConfig, WuKong),
}


def model_entry(name: str) -> ModelEntry:
    """The entry of the model `name`.

    Raises:
        UnknownModelError: no model has that name.
    """
    try:
        return MODELS[name]
    except KeyError:
        raise UnknownModelError(name, MODELS) from None


def build_model(
    name: str, schema: FeatureSchema, item_fields: Tensor, config: Mapping[str, Any], seed: int = 0
) -> CtrModel:
    """Build a model with random initial weights.

    Args:
        name: key in `MODELS`.
        schema: the model's inputs.
        item_fields: dense ids of each catalogue row's fields, [V, F].
        config: keys and values of the model's config; lists (from JSON) become tuples.
        seed: seed of the initial weights.

    Raises:
        UnknownModelError: no model has that name.
        ValueError: the config contradicts itself or the schema.
    """
    torch.manual_seed(seed)
    # Any: a dict's type cannot say that each model takes its own config.
    constructor: Any = model_entry(name).model
    model: CtrModel = constructor(schema, item_fields, make_config(name, config))
    return model


def make_config(name: str, config: Mapping[str, Any]) -> Any:
    """The config of a model: the values given, and its defaults for the other keys."""
    values = {key: _tuples(value) for key, value in config.items()}
    return model_entry(name).config(**values)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(part) for part in value) if isinstance(value, list | tuple) else value
