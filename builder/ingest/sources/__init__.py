"""The sources of logs, by their names in a recipe: one literal dict."""

from builder.ingest.sources.amazon import find_amazon, read_amazon
from builder.ingest.sources.amazon_2023 import find_amazon_2023, read_amazon_2023
from builder.ingest.sources.complete_journey import find_complete_journey, read_complete_journey
from builder.ingest.sources.files import find_files, read_files
from builder.ingest.sources.movielens import find_movielens, read_movielens
from builder.ingest.sources.open_bandit import find_open_bandit, read_open_bandit
from builder.ingest.sources.promotions import find_promotions, read_promotions
from builder.ingest.sources.raw import Source
from builder.ingest.sources.synthetic import find_synthetic, read_synthetic
from builder.ingest.sources.taobao import find_taobao, read_taobao

SOURCES: dict[str, Source] = {
    "complete-journey": Source(read_complete_journey, find_complete_journey),
    "promotions": Source(read_promotions, find_promotions),
    "movielens": Source(read_movielens, find_movielens),
    "files": Source(read_files, find_files),
    "synthetic": Source(read_synthetic, find_synthetic),
    "amazon-reviews": Source(read_amazon, find_amazon),
    "taobao": Source(read_taobao, find_taobao),
    "amazon-reviews-2023": Source(read_amazon_2023, find_amazon_2023),
    "open-bandit": Source(read_open_bandit, find_open_bandit),
}
