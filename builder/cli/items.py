"""`absorb items`: register new items from a file, list them, remove some."""

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from builder.cli.catalogue import RECOVER
from builder.cli.options import ARTIFACTS, CACHE, Artifacts, CacheUrl
from builder.cli.progress_bar import console
from builder.errors import EventsError
from builder.publish.cache import CacheClient, cache_errors, connect_cache
from builder.publish.new_items import known_fields
from models.command_line import EXIT_CODES
from models.contract.errors import RequestError
from models.contract.prototypes import check_item_fields
from models.contract.vocabulary import check_id
from models.live.new_items import NewItem, drop_items, put_items, read_fields, registered

app = typer.Typer()
SHOWN = 1000
"""Items that a list shows."""


@app.command(
    rich_help_panel=RECOVER,
    epilog=f"Example: absorb items new.csv --item product_id\n\n{EXIT_CODES}",
)
def items(
    file: Annotated[
        Path | None,
        typer.Argument(help="items to register: .jsonl, .csv or .parquet; without it: list them"),
    ] = None,
    item: Annotated[str, typer.Option(help="column of the id, in a table")] = "item_id",
    remove: Annotated[
        list[str] | None, typer.Option(help="id of an item to remove (repeatable)")
    ] = None,
    artifacts: Artifacts = ARTIFACTS,
    cache: CacheUrl = CACHE,
) -> None:
    """Register items that no build knows yet, list them, or remove some.

    They are scored by their item fields until a build knows them. A line of a .jsonl file is
    {"item_id": "9910", "fields": {"department": "GROCERY"}}. Of a table, the columns are read that are item fields of a
    model that serves. The services know the items at their next poll.
    """
    client = connect_cache(cache)
    if remove:
        with cache_errors(client):
            gone = drop_items(client, [check_id("--remove", one) for one in remove])
        console.print(f"removed {gone} of {len(remove)}", highlight=False)
    if file is not None:
        new = list(_read(file, item, known_fields(client, artifacts)))
        with cache_errors(client):
            put_items(client, new)
        console.print(f"registered {len(new):,} items", highlight=False)
    if file is None and not remove:
        _show(client)


def _show(client: CacheClient) -> None:
    with cache_errors(client):
        found = registered(client)
    for one in list(found.items.values())[:SHOWN]:
        fields = ", ".join(f"{name}: {value}" for name, value in one.fields.items())
        console.print(f"{one.item_id}  {fields}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"{len(found.items):,} new items", highlight=False)
    if found.unreadable:
        console.print(f"{found.unreadable} entries that cannot be read", highlight=False)


def _read(file: Path, column: str, known: Mapping[str, object]) -> Iterator[NewItem]:
    now_s, seen = int(time.time()), set()
    rows = _lines(file) if file.suffix == ".jsonl" else _table(file, column, known)
    for place, item_id, fields in rows:
        try:
            one = NewItem(check_id("item_id", str(item_id)), read_fields("fields", fields), now_s)
            check_item_fields("fields", one.fields, known)
        except RequestError as error:
            raise EventsError(place, str(error)) from error
        if one.item_id in seen:
            raise EventsError(place, f"item_id: got {one.item_id!r} again, expected each item once")
        seen.add(one.item_id)
        yield one


Row = tuple[str, Any, Any]
"""Place for errors, raw id, raw fields."""


def _lines(file: Path) -> Iterator[Row]:
    # Here: polars is no core dependency.
    from builder.ingest.sources.lines import parse_json, read_lines

    for place, line in read_lines(file):
        row = parse_json(place, line, ("item_id", "fields"))
        yield place, row["item_id"], row["fields"]


def _table(file: Path, column: str, known: Mapping[str, object]) -> Iterator[Row]:
    from builder.ingest.columns import as_ids, as_text
    from builder.ingest.sources.files import read_columns
    from builder.ingest.sources.raw import Table

    table = Table(
        str(file), read_columns(file, [column], [name for name in known if name != column])
    )
    names = [name for name in table.frame.columns if name != column]
    if not names:
        listed = ", ".join(known) or "none, for no model that serves has item fields"
        raise EventsError(str(file), f"no column of an item field; item fields are: {listed}")
    columns = [as_text(table, name).to_list() for name in names]
    for number, (item_id, *values) in enumerate(
        zip(as_ids(table, column), *columns, strict=True), 1
    ):
        yield f"{file}, row {number}", item_id, dict(zip(names, values, strict=True))
