"""Which folder an artifact allows."""

import logging

from models.contract.artifact import Manifest
from models.live.by_item import ByItem
from models.live.fold import Encode, Folder, ReEncode

log = logging.getLogger(__name__)


def choose_folder(manifest: Manifest, encode: Encode) -> Folder:
    """The fastest folder whose states are those of the encode graph.

    Args:
        manifest: of the artifact.
        encode: its encode graph.
    """
    schema, spec, config = manifest.schema, manifest.state_spec, manifest.config
    if {"slot_items", "slot_sums"} <= {tensor.name for tensor in spec}:
        heads, activity = int(config.get("heads", 1)), int(config.get("activity", 0))
        try:
            return ByItem(schema, spec, encode, heads=heads, activity=activity)
        except ValueError as error:
            log.info("states are encoded, not summed by item: %s", error)
    return ReEncode(schema, spec, encode)
