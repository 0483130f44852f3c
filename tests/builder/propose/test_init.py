"""`absorb init`: the recipe that it writes reads the log, passes the audit and trains; wrong logs get a sentence."""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from builder.cli.main import app, main
from builder.errors import EventsError
from builder.ingest.run import ingest
from builder.propose.roles import Given
from builder.propose.run import Options, Proposal, propose
from builder.recipe.recipe import load_recipe
from tests.builder.propose import shops
from tests.builder.propose.shops import DAY_S, START_S

LOGS: dict[str, Callable[[], pl.DataFrame]] = {
    "shop": shops.shop,
    "news": shops.news,
    "ratings": shops.ratings,
    "impressions": shops.impressions,
    "steps": shops.steps,
    "pairs": shops.pairs,
}


def suggested(_question: str, answer: float) -> float:
    return answer


def written(folder: Path, frame: pl.DataFrame, name: str = "events.parquet") -> Path:
    path = folder / name
    frame.write_csv(path) if path.suffix == ".csv" else frame.write_parquet(path)
    return path


def proposed(folder: Path, frame: pl.DataFrame, **options: Any) -> Proposal:
    given = Given(
        **{key: options.pop(key) for key in list(options) if key in Given.__annotations__}
    )
    log = written(folder, frame)
    return propose(log, folder / "recipe.toml", Options(given, **options), suggested)


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


def unwrapped(text: str) -> str:
    """A recipe's text with each comment in one line: where it is wrapped depends on the length of paths."""
    return text.replace("\n# ", " ")


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
@pytest.mark.parametrize("name", LOGS)
def test_recipe_of_a_log_passes_the_audit_and_trains(
    tmp_path: Path, name: str, suffix: str
) -> None:
    """Parquet goes all of the way, by a shop, impressions and no times; the CSV of a log gives the same events."""
    log, out = written(tmp_path, LOGS[name](), f"events.{suffix}"), tmp_path / "recipe.toml"
    run("init", log, "--out", out)
    recipe = load_recipe(out)
    events = ingest(recipe)
    if suffix == "csv":
        written(tmp_path, LOGS[name](), "other.parquet")
        run("init", tmp_path / "other.parquet", "--out", tmp_path / "other.toml")
        other = ingest(load_recipe(tmp_path / "other.toml"))
        assert events.vocabulary == other.vocabulary
        assert events.item.tolist() == other.item.tolist()
        assert events.label.tolist() == other.label.tolist()
        return
    text = out.read_text()
    lines = ["steps = 4" if line.startswith("steps") else line for line in text.splitlines()]
    lines = ["validate_every = 2" if line.startswith("validate_every") else line for line in lines]
    out.write_text("\n".join(lines))
    run("audit", out, "--runs", tmp_path / "runs")
    if name in ("shop", "impressions", "pairs"):
        run("train", out, "--runs", tmp_path / "runs")


def test_columns_of_a_shop_are_known(tmp_path: Path) -> None:
    found = proposed(tmp_path, shops.shop())
    data = found.recipe.data

    assert (data.columns.user, data.columns.item) == ("customer_id", "productId")
    assert (data.columns.time, data.columns.quantity) == ("ordered_at", "quantity")
    assert data.columns.item_text == "product_name"
    assert data.item_fields == ("category", "price")
    assert data.context_fields == ("hour", "weekday", "channel")
    assert found.recipe.negatives.exclude == "slate"
    assert found.recipe.negatives.own_past == 0.5
    for comment in (
        "# order_id: left out: names lists, baskets or sessions",
        "# price: one number per item, in buckets",
        'price = { kind = "numeric" }',
        "# remark: left out: nearly unique",
        "of the rows have 0 or less: returns, which are dropped",
        "of users have more events, which lose",
        "2023-11-14 22:",
    ):
        assert comment in found.text


def test_what_is_taken_once_only_is_no_negative_of_its_user(tmp_path: Path) -> None:
    found = proposed(tmp_path, shops.news())

    assert found.recipe.data.time_unit == "ms"
    assert found.recipe.negatives.exclude == "past"
    assert "numbers that are dates in ms: 2023-11-14" in found.text


def test_ratings_need_a_threshold_which_is_asked_for(tmp_path: Path) -> None:
    log, asked = written(tmp_path, shops.ratings()), []

    def ask(question: str, suggestion: float) -> float:
        asked.append((question, suggestion))
        return 3.5

    found = propose(log, tmp_path / "recipe.toml", Options(Given()), ask)

    assert asked[0][1] == 4.0
    assert "from which rating on is an event a positive?" in asked[0][0]
    assert found.recipe.data.positive_from == 3.5
    assert "CHOOSE: rating from here on is a 1" in found.text
    events = ingest(found.recipe)
    assert 0 < events.label.mean() < 1
    assert proposed(tmp_path, shops.ratings(), positive_from=2.0).recipe.data.positive_from == 2.0


def test_labels_of_impressions_are_kept(tmp_path: Path) -> None:
    found = proposed(tmp_path, shops.impressions())

    assert found.recipe.data.columns.label == "clicked"
    assert "impression_id: left out: names lists" in found.text
    assert found.recipe.data.context_fields == ("hour", "weekday", "position")
    assert "[negatives]" not in found.text


def test_kinds_of_events_are_sorted_by_their_names(tmp_path: Path) -> None:
    found = proposed(tmp_path, shops.steps())
    kinds = found.recipe.data.event_kinds

    assert kinds is not None
    assert (kinds.column, kinds.positive) == ("event_type", ("purchase",))
    assert set(kinds.history) == {"view", "add_to_cart"}
    assert (kinds.cancel, kinds.drop) == (("return",), ("login",))
    assert "CHOOSE what each kind means" in found.text
    assert any("see event_kinds" in note for note in found.notes)
    assert ingest(found.recipe).is_target is not None


def test_log_without_times_is_split_at_random(tmp_path: Path) -> None:
    found = proposed(tmp_path, shops.pairs())

    assert found.recipe.data.columns.time == ""
    assert found.recipe.split.test_events == 0.1
    assert found.recipe.data.user_fields == ("user",)
    assert "no times" in " ".join(found.notes)


def test_spreadsheet_is_read_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_bytes(shops.spreadsheet())
    out = tmp_path / "recipe.toml"

    found = propose(tmp_path / "events.csv", out, Options(Given()), suggested)

    rule = found.recipe.data.csv
    assert rule is not None
    assert (rule.separator, rule.encoding, rule.decimal_comma) == (";", "cp1252", True)
    assert rule.nulls == ("NULL",)
    assert found.recipe.data.time_format == "%d.%m.%Y %H:%M"
    assert found.recipe.data.nulls == {"item_nr": "drop"}
    assert "Größe" in found.text
    assert len(ingest(found.recipe).item) == 2_352  # without the 48 of 2,400 that have no item


def test_file_without_a_header_is_read_with_the_columns_that_are_named(tmp_path: Path) -> None:
    shops.news().write_csv(tmp_path / "clicks.csv", include_header=False)
    log, out = tmp_path / "clicks.csv", tmp_path / "recipe.toml"
    with pytest.raises(EventsError, match=r"the id of a user among column_1 .* --user COLUMN"):
        propose(log, out, Options(Given()), suggested)

    given = Given(user="column_1", item="column_2")
    found = propose(log, out, Options(given), suggested)

    assert found.recipe.data.columns.time == "column_3"
    assert found.recipe.data.csv is not None
    assert found.recipe.data.csv.names == ("column_1", "column_2", "column_3")


def test_tables_beside_the_log_are_found_and_used(tmp_path: Path) -> None:
    frame = shops.ratings()
    items = frame.select("movieId").unique("movieId").sort("movieId")
    items = items.with_columns(
        title=pl.format("Film {}", "movieId"),
        genres=pl.format("a|g{}", pl.col("movieId") % 5),
        blurb=pl.format("All about film {}", "movieId"),
    )
    items.write_csv(tmp_path / "movies.csv")

    assert any(
        "movies.csv has one row per movieId" in note for note in proposed(tmp_path, frame).notes
    )
    found = proposed(tmp_path, frame, items=tmp_path / "movies.csv")

    assert found.recipe.data.item_fields == ("genres",)
    assert found.recipe.data.columns.item_text == "title"
    assert "100% hold several" in unwrapped(found.text)
    assert "blurb: left out: " in unwrapped(found.text)
    assert ingest(found.recipe).item_texts is not None


def as_changed(column: str, values: pl.Expr) -> pl.DataFrame:
    return shops.news().with_columns(values.alias(column))


WRONG: dict[str, tuple[pl.DataFrame, str]] = {
    "empty": (shops.news().clear(), "got a file without a row, expected at least one event"),
    "no user": (
        shops.news().drop("user_id"),
        "got no column that looks like the id of a user among click_article_id (integer), "
        "click_timestamp (integer); expected one, or its name: --user COLUMN",
    ),
    "lists": (
        shops.news()
        .group_by("user_id")
        .agg("click_article_id")
        .rename({"click_article_id": "items"}),
        "items hold lists: a log has one row per event, so explode them first",
    ),
    "one user": (
        as_changed("user_id", pl.lit(7)),
        "column 'user_id': got one user in all 1,222 events",
    ),
    "one item": (
        as_changed("click_article_id", pl.lit("x")),
        "column 'click_article_id': got one item in all",
    ),
    "items with fractions": (
        as_changed("click_article_id", pl.col("click_article_id") + 0.5),
        "got no column that looks like the id of an item",
    ),
    "mixed times": (
        as_changed("click_timestamp", pl.format("{}?", "click_timestamp")),
        "column 'click_timestamp': got times such as '17",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_logs_that_are_none_are_refused_with_a_sentence(tmp_path: Path, name: str) -> None:
    frame, problem = WRONG[name]
    with pytest.raises(EventsError) as caught:
        proposed(tmp_path, frame)

    assert problem in str(caught.value)
    assert str(tmp_path) in str(caught.value) or "events.parquet" in str(caught.value)


def test_ids_as_whole_floats_and_words_for_nothing_are_read(tmp_path: Path) -> None:
    """pandas writes 7.0 where a column had a gap, and tools write their own word for one."""
    frame = as_changed("click_article_id", pl.col("click_article_id").cast(pl.Float64))
    is_gap = pl.int_range(len(frame)) % 100 == 99
    frame = frame.with_columns(
        click_timestamp=pl.when(is_gap)
        .then(pl.lit("n/a"))
        .otherwise(pl.col("click_timestamp").cast(pl.String))
    )
    log = written(tmp_path, frame, "events.csv")

    found = propose(log, tmp_path / "recipe.toml", Options(Given()), suggested)

    assert found.recipe.data.nulls == {"click_timestamp": "drop"}
    assert "7.0" not in ingest(found.recipe).vocabulary.items
    assert "7" in ingest(found.recipe).vocabulary.items


def test_log_of_one_moment_is_read_without_times(tmp_path: Path) -> None:
    found = proposed(tmp_path, as_changed("click_timestamp", pl.lit(START_S)))

    assert found.recipe.data.columns.time == ""
    assert "all events have one time in 'click_timestamp'" in found.text
    assert len(ingest(found.recipe).item) == len(shops.news())


def test_days_have_no_hour_and_are_compared_by_weeks(tmp_path: Path) -> None:
    day = (pl.col("click_timestamp") // 1000 // DAY_S * DAY_S).alias("click_timestamp")
    found = proposed(tmp_path, shops.news().with_columns(day))

    assert found.recipe.data.context_fields == ("weekday",)
    assert found.recipe.negatives.window_hours is not None
    assert found.recipe.negatives.window_hours >= 168


def test_hostile_names_stay_in_their_comments(tmp_path: Path) -> None:
    """A column's name may hold a quote, a line break or a whole table."""
    evil = 'a"\n[train]\nsteps = 1 # \x7f\\'
    frame = shops.news().with_columns(pl.lit(1.5).alias(evil)).rename({"user_id": "user 'id"})

    found = proposed(tmp_path, frame, user="user 'id")

    assert found.recipe.data.columns.user == "user 'id"
    assert found.recipe.train.steps == 1_000
    assert tomllib.loads(found.text)["train"]["steps"] == 1_000


def test_recipe_is_not_overwritten_unless_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, out = written(tmp_path, shops.news()), tmp_path / "my" / "recipe.toml"
    first = run("init", log, "--out", out)
    assert "absorb audit" in first
    refused = CliRunner().invoke(app, ["init", str(log), "--out", str(out)])
    assert refused.exit_code == 2
    assert "which exists; --force overwrites it" in " ".join(refused.output.split())
    run("init", log, "--out", out, "--force")
    monkeypatch.chdir(tmp_path)
    run("init", "events.parquet", "--out", "my/near.toml")
    assert load_recipe(out.with_name("near.toml")).data.events == "../events.parquet"


@pytest.mark.parametrize("name", ["no such.parquet", "garbage.parquet", "garbage.csv", "log.xlsx"])
def test_unreadable_files_are_one_line(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if not name.startswith("no such"):
        (tmp_path / name).write_bytes(bytes(range(256)) * 4)
    arguments = ["builder", "init", str(tmp_path / name), "--out", str(tmp_path / "r.toml")]
    monkeypatch.setattr("sys.argv", arguments)

    with pytest.raises(SystemExit) as left:
        main()

    assert left.value.code == 1
    assert name in capsys.readouterr().err
    assert not (tmp_path / "r.toml").exists()
