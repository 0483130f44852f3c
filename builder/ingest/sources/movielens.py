"""MovieLens in its official layouts (100K, 1M, latest), or converted to Parquet.

The files may not be redistributed: get them at https://grouplens.org/datasets/movielens/ and unpack them.
In every layout the tables have the columns

    ratings  user_id, movie_id, rating, timestamp             (a conversion may lack the time)
    items    movie_id, title, genres ("Action|Comedy"), genre (the first), year
    users    user_id, gender, age, occupation, zip_code     (latest has no such table)
"""

from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from builder.errors import EventsError
from builder.ingest.sources.raw import RawLog, Table, find_folder, require_columns
from builder.recipe.data import Columns
from builder.recipe.recipe import Recipe

HOME = "https://grouplens.org/datasets/movielens/"
RATINGS = ("user_id", "movie_id", "rating", "timestamp")
ITEMS = ("movie_id", "title", "genres")
GENRES_100K = (
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
)
ITEMS_100K = ("movie_id", "title", "released", "video_released", "url", *GENRES_100K)


@dataclass(frozen=True)
class _File:
    """A file of a layout.

    Attributes:
        name: file name; .parquet is Parquet, .csv has a header and quotes, others have neither.
        columns: our names, in the order of the file.
        separator: text between two columns.
        encoding: encoding of the text.
    """

    name: str
    columns: tuple[str, ...]
    separator: str = ","
    encoding: str = "utf-8"


@dataclass(frozen=True)
class _Layout:
    """Files of one edition."""

    ratings: _File
    items: _File
    users: _File | None = None


CONVERTED = _Layout(
    _File("ratings.parquet", RATINGS[:-1]),
    _File("items.parquet", ITEMS),
    _File("users.parquet", ("user_id",)),
)
LAYOUTS = (
    _Layout(
        _File("u.data", RATINGS, "\t"),
        _File("u.item", ITEMS_100K, "|", "latin-1"),
        _File("u.user", ("user_id", "age", "gender", "occupation", "zip_code"), "|", "latin-1"),
    ),
    _Layout(
        _File("ratings.dat", RATINGS, "::", "latin-1"),
        _File("movies.dat", ITEMS, "::", "latin-1"),
        _File("users.dat", ("user_id", "gender", "age", "occupation", "zip_code"), "::", "latin-1"),
    ),
    _Layout(_File("ratings.csv", RATINGS), _File("movies.csv", ITEMS)),
    CONVERTED,
)


def read_movielens(recipe: Recipe) -> RawLog:
    """Read ratings, movies and, where the edition has them, users.

    Raises:
        EventsError: the folder or a file does not exist, or a file has other columns.
    """
    folder = find_folder(recipe, HOME)
    layout = _layout(folder)
    label = None if recipe.data.positive_from is None else "rating"
    items, ratings = _read(folder, layout.items), _read(folder, layout.ratings)
    time = "timestamp" if "timestamp" in ratings.frame.columns else ""
    return RawLog(
        events=ratings,
        columns=Columns("user_id", "movie_id", time, label, item_text="title"),
        items=Table(items.source, _derive(items.frame)),
        users=_read(folder, layout.users) if layout.users else None,
    )


def find_movielens(recipe: Recipe) -> list[Path]:
    """Files of the edition in the recipe's folder.

    Raises:
        EventsError: the folder does not exist, or holds no edition.
    """
    folder = find_folder(recipe, HOME)
    layout = _layout(folder)
    files = [layout.ratings, layout.items, *([layout.users] if layout.users else [])]
    return [folder / file.name for file in files]


def _layout(folder: Path) -> _Layout:
    """The edition in a folder. A conversion to Parquet may lack users, as the edition latest does."""
    for layout in LAYOUTS:
        if (folder / layout.ratings.name).is_file():
            lacks_users = layout is CONVERTED and not (folder / "users.parquet").is_file()
            return replace(layout, users=None) if lacks_users else layout
    names = ", ".join(layout.ratings.name for layout in LAYOUTS)
    raise EventsError(
        str(folder), f"files: got none of {names}, expected one of them; get the files at {HOME}"
    )


def _read(folder: Path, file: _File) -> Table:
    path = folder / file.name
    if not path.is_file():
        raise EventsError(str(path), f"no such file; get the files at {HOME}")
    try:
        frame = pl.read_parquet(path) if path.suffix == ".parquet" else _read_text(path, file)
    except (pl.exceptions.PolarsError, UnicodeDecodeError) as error:
        raise EventsError(str(path), f"cannot be read: {error}") from error
    require_columns(str(path), frame.columns, file.columns)
    return Table(str(path), frame)


def _read_text(path: Path, file: _File) -> pl.DataFrame:
    text = path.read_bytes().decode(file.encoding)
    is_csv = path.suffix == ".csv"
    if len(file.separator) > 1:  # polars takes one byte; no MovieLens file but the CSV holds tabs
        text = text.replace(file.separator, "\t")
    frame = pl.read_csv(
        text.encode(),
        separator="\t" if len(file.separator) > 1 else file.separator,
        has_header=is_csv,
        quote_char='"' if is_csv else None,
        infer_schema=False,
        raise_if_empty=False,
    )
    if frame.width and frame.width != len(file.columns):
        expected = f"{len(file.columns)}: {', '.join(file.columns)}"
        raise EventsError(str(path), f"columns: got {frame.width}, expected {expected}")
    return frame.rename(dict(zip(frame.columns, file.columns, strict=False)))


def _derive(items: pl.DataFrame) -> pl.DataFrame:
    """Join 100K's genre flags, then add the first genre and the year at the end of the title."""
    if "genres" not in items.columns:
        flags = [
            pl.when(pl.col(name) == "1").then(pl.lit(name)).alias(name) for name in GENRES_100K
        ]
        joined = pl.concat_list(flags).list.drop_nulls().list.join("|")
        items = items.with_columns(joined.alias("genres"))
    return items.with_columns(
        genre=pl.col("genres").str.split("|").list.first(),
        year=pl.col("title").str.extract(r"\((\d{4})\)\s*$"),
    )
