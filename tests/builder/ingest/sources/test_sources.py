"""Sources: the official file formats are found where the recipe names them, or the error says what was searched for."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from builder.errors import EventsError
from builder.ingest.run import ingest
from builder.ingest.sources import SOURCES
from builder.ingest.sources.movielens import GENRES_100K
from builder.recipe.recipe import Recipe, load_recipe, recipe_from
from tests.builder.logs import ingest_at, log_frame, plain_recipe, small_recipe

# (user, movie, rating, second); movie 2 has a title beyond ASCII.
RATINGS = [
    (u, m, (u + m) % 5 + 1, 900_000_000 + 1000 * u + m) for u in range(1, 7) for m in (1, 2, 3)
]
TITLES = {1: "Toy Story (1995)", 2: "Misérables, Les (1998)", 3: "Heat, Slow (1995)"}
GENRES = {1: ["Animation", "Comedy"], 2: ["Drama"], 3: ["Action", "Crime"]}


def movielens(path: Path, **data: Any) -> Recipe:
    values = plain_recipe()
    values["data"] = {
        "source": "movielens",
        "path": str(path),
        "context_fields": [],
        "item_fields": ["genres", "genre", "year"],
        "min_item_count": 1,
        **data,
    }
    return recipe_from(values, Path("recipe.toml"))


def write_100k(folder: Path) -> None:
    lines = ["\t".join(map(str, row)) for row in RATINGS]
    (folder / "u.data").write_text("\n".join(lines) + "\n")
    items = []
    for movie, title in TITLES.items():
        flags = ["1" if genre in GENRES[movie] else "0" for genre in GENRES_100K]
        items.append("|".join([str(movie), title, "01-Jan-1995", "", "http://x", *flags]))
    (folder / "u.item").write_text("\n".join(items) + "\n", encoding="latin-1")
    users = [f"{user}|{20 + user}|F|artist|0{user}200" for user in range(1, 7)]
    (folder / "u.user").write_text("\n".join(users) + "\n")


def write_1m(folder: Path) -> None:
    ratings = ["::".join(map(str, row)) for row in RATINGS]
    movies = [f"{movie}::{title}::{'|'.join(GENRES[movie])}" for movie, title in TITLES.items()]
    users = [f"{user}::F::{20 + user}::2::0{user}200" for user in range(1, 7)]
    for name, lines in (("ratings", ratings), ("movies", movies), ("users", users)):
        (folder / f"{name}.dat").write_text("\n".join(lines) + "\n", encoding="latin-1")


def write_latest(folder: Path) -> None:
    ratings = [f"{user},{movie},{rating}.0,{second}" for user, movie, rating, second in RATINGS]
    movies = [
        f'{movie},"{title}",{"|".join(GENRES[movie])}'
        if "," in title
        else f"{movie},{title},{'|'.join(GENRES[movie])}"
        for movie, title in TITLES.items()
    ]
    (folder / "ratings.csv").write_text("\n".join(["userId,movieId,rating,timestamp", *ratings]))
    (folder / "movies.csv").write_text("\n".join(["movieId,title,genres", *movies]))


def write_parquet(folder: Path) -> None:
    columns = ["user_id", "movie_id", "rating", "timestamp"]
    frame = pl.DataFrame(RATINGS, schema=columns, orient="row")
    frame.with_columns(pl.col("rating").cast(pl.Float32)).write_parquet(folder / "ratings.parquet")
    genres = ["|".join(names) for names in GENRES.values()]
    items = {"movie_id": list(TITLES), "title": list(TITLES.values()), "genres": genres}
    pl.DataFrame(items).write_parquet(folder / "items.parquet")


LAYOUTS = {"100k": write_100k, "1m": write_1m, "latest": write_latest, "parquet": write_parquet}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_movielens_layout_gives_the_same_log(tmp_path: Path, layout: str) -> None:
    LAYOUTS[layout](tmp_path)

    events = ingest_at(movielens(tmp_path, positive_from=4.0))

    assert events.user_ids == ["1", "2", "3", "4", "5", "6"]
    assert list(events.vocabulary.items) == ["1", "2", "3"]
    assert events.ts_s.tolist() == [row[3] for row in RATINGS]
    assert events.label.tolist() == [int(row[2] >= 4) for row in RATINGS]
    assert events.has_impressions
    # genres, genre: all differ; year: 1995, 1998, 1995.
    assert events.item_fields[2:, 1].tolist() == [3, 4, 2]
    assert events.item_fields[2:, 2].tolist() == [3, 4, 2]
    assert events.item_fields[2:, 3].tolist() == [2, 3, 2]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_titles_beyond_ascii_survive(tmp_path: Path, layout: str) -> None:
    LAYOUTS[layout](tmp_path)

    raw = SOURCES["movielens"].read(movielens(tmp_path))

    assert raw.items is not None
    assert raw.items.frame["title"].to_list() == list(TITLES.values())


@pytest.mark.parametrize("layout", ["100k", "1m"])
def test_movielens_users_have_a_profile(tmp_path: Path, layout: str) -> None:
    LAYOUTS[layout](tmp_path)

    events = ingest_at(movielens(tmp_path, user_fields=["age", "zip_code"]))

    assert list(events.vocabulary.user["age"]) == ["21", "22", "23", "24", "25"]
    assert events.vocabulary.user["zip_code"][0] == "01200"
    assert not events.has_impressions


def test_missing_movielens_folder_says_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(EventsError, match=r"nowhere: no such folder.*grouplens\.org/datasets"):
        ingest(movielens(tmp_path / "nowhere"))


def test_folder_without_ratings_names_the_files_looked_for(tmp_path: Path) -> None:
    with pytest.raises(EventsError, match=r"none of u\.data, ratings\.dat, ratings\.csv"):
        ingest(movielens(tmp_path))


def test_missing_movies_file_is_named(tmp_path: Path) -> None:
    write_latest(tmp_path)
    (tmp_path / "movies.csv").unlink()

    with pytest.raises(EventsError, match=r"movies\.csv: no such file"):
        ingest(movielens(tmp_path))


def test_converted_ratings_without_time_cannot_be_split_by_time(tmp_path: Path) -> None:
    write_parquet(tmp_path)
    path = tmp_path / "ratings.parquet"
    pl.read_parquet(path).drop("timestamp").write_parquet(path)

    with pytest.raises(EventsError, match=r"ratings\.parquet: the log has no times; .*test_events"):
        ingest(movielens(tmp_path))


def test_converted_ratings_without_a_column_are_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path)
    path = tmp_path / "ratings.parquet"
    pl.read_parquet(path).drop("rating").write_parquet(path)

    with pytest.raises(EventsError, match=r"no column 'rating'; its columns are: user_id"):
        ingest(movielens(tmp_path))


def test_wrong_number_of_columns_is_refused(tmp_path: Path) -> None:
    write_100k(tmp_path)
    (tmp_path / "u.data").write_text("1\t2\t3\n")

    with pytest.raises(
        EventsError, match=r"u\.data: columns: got 3, expected 4: user_id, movie_id"
    ):
        ingest(movielens(tmp_path))


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    write_latest(tmp_path)
    (tmp_path / "ratings.csv").write_bytes(b"\xff\xfe\x00")

    with pytest.raises(EventsError, match=r"ratings\.csv: cannot be read"):
        ingest(movielens(tmp_path))


def test_glob_reads_all_files_in_the_order_of_their_names(tmp_path: Path) -> None:
    frame = log_frame()
    frame[20:].write_csv(tmp_path / "part-2.csv")
    frame[:20].write_csv(tmp_path / "part-1.csv")
    recipe = small_recipe(tmp_path, data={"events": "part-*.csv"})

    table = SOURCES["files"].read(recipe).events

    assert table.frame["timestamp"].to_list() == frame["timestamp"].cast(pl.String).to_list()
    assert [path.name for path in SOURCES["files"].find(recipe)] == ["part-1.csv", "part-2.csv"]


def test_only_mapped_columns_are_read(tmp_path: Path) -> None:
    log_frame().with_columns(noise=pl.lit(1)).write_parquet(tmp_path / "events.parquet")

    raw = SOURCES["files"].read(small_recipe(tmp_path, data={"events": "events.parquet"}))

    assert raw.events.frame.columns == ["user_id", "item_id", "timestamp"]


def test_absent_file_names_every_place_looked_at(tmp_path: Path) -> None:
    with pytest.raises(EventsError) as caught:
        ingest(small_recipe(tmp_path))

    assert str(tmp_path / "events.csv") in str(caught.value)
    assert str(Path.cwd() / "events.csv") in str(caught.value)


@pytest.mark.parametrize("name", ["events.parquet", "events.json"])
def test_file_of_another_kind_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("{}")

    with pytest.raises(EventsError, match=name):
        ingest(small_recipe(tmp_path, data={"events": name}))


def test_files_that_differ_in_a_type_are_refused(tmp_path: Path) -> None:
    log_frame().write_parquet(tmp_path / "1.parquet")
    log_frame().with_columns(item_id=pl.lit([5])).write_parquet(tmp_path / "2.parquet")

    with pytest.raises(EventsError, match="files differ in a column's type"):
        ingest(small_recipe(tmp_path, data={"events": "?.parquet"}))


def test_complete_journey_is_read_from_its_package() -> None:
    """Counts as its documentation gives them; 17 products are sold but not listed."""
    events = ingest(load_recipe("builder/recipes/habit.toml"))

    assert len(events.item) == 1_469_307
    assert events.num_users == 2_469
    assert events.schema.num_items == 2 + 92_331 + 17
    assert events.schema.user_fields[0].name == "age"
    assert events.split.validate_from_s - events.split.train_from_s == 147 * 86_400
    texts = dict(zip(events.vocabulary.items, events.item_texts or [], strict=True))
    assert texts["826249"] == "Hamburger buns, 12 oz (store brand)"
    assert texts["1082185"] == "Bananas, 40 lb"
    assert texts["862349"] == "Fluid milk white only (store brand)"
    assert sum(text is None for text in texts.values()) == 528 + 17
