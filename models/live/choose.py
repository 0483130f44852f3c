"""Which folder an artifact allows."""

import logging

from models.contract.artifact import Manifest
from models.live.additive import Additive
from models.live.ages import Ages
from models.live.by_item import ByItem
from models.live.fold import Encode, Folder, ReEncode

log = logging.getLogger(__name__)


def choose_folder(manifest: Manifest, encode: Encode, event: Encode | None = None) -> Folder:
    """The fastest folder whose states are those of the encode graph.

    Args:
        manifest: of the artifact.
        encode: its encode graph.
        event: its graph of single events; None if it has none.
    """
    schema, spec, config = manifest.schema, manifest.state_spec, manifest.config
    activity, gap_s = int(config.get("activity", 0)), manifest.request_gap_s
    if event is not None:
        try:
            return Additive(schema, spec, encode, event, gap_s, activity)
        except ValueError as error:
            log.info("states are encoded, not added to: %s", error)
    if {"slot_items", "slot_sums"} <= {tensor.name for tensor in spec}:
        heads = int(config.get("heads", 1))
        try:
            return ByItem(schema, spec, encode, Ages(gap_s), heads=heads, activity=activity)
        except ValueError as error:
            log.info("states are encoded, not summed by item: %s", error)
    return ReEncode(schema, spec, encode, Ages(gap_s))
