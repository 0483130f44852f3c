"""What requests to a published model may hold."""

from loadtest.traffic import Sample
from service.tools.published import Published


def sample_of(published: Published) -> Sample:
    """Users, items and context of a published model."""
    vocabulary, schema = published.artifact.vocabulary, published.artifact.manifest.schema
    context, fields = (
        {name: list(values) for name, values in known.items() if values}
        for known in (vocabulary.context, vocabulary.candidate)
    )
    name, length = published.generation.model, schema.recent_length
    return Sample(name, published.users, list(vocabulary.items), context, length, fields)
