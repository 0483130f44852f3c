"""A Kafka cluster in this process: librdkafka's own mock brokers, which speak the real protocol over real sockets."""

from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka import Producer


@contextmanager
def mock_cluster() -> Iterator[str]:
    """Start two brokers, which make topics of four partitions on first use; gives their addresses."""
    owner = Producer(
        {"bootstrap.servers": "ignored:1", "test.mock.num.brokers": "2", "log_level": 0}
    )
    brokers = owner.list_topics(timeout=10).brokers.values()
    yield ",".join(f"{broker.host}:{broker.port}" for broker in brokers)
    owner.flush(1)
