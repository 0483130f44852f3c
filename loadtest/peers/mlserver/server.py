"""MLServer: a custom runtime that speaks the Open Inference Protocol in JSON."""

from mlserver import MLModel
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.types import InferenceRequest, InferenceResponse

from loadtest.peers.ranker import Ranker


class RankerRuntime(MLModel):  # type: ignore[misc] # MLServer is in the peer's own environment only
    """The ranker as a model of MLServer."""

    async def load(self) -> bool:
        """Load the ranker, once in every worker."""
        self._ranker = Ranker()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Score candidates for a user."""
        query = {tensor.name: StringCodec.decode_input(tensor) for tensor in payload.inputs}
        fields = {name: query[name] for name in self._ranker.candidate_fields}
        scores = self._ranker.score(query["user_id"][0], query["candidates"], fields)
        outputs = [NumpyCodec.encode_output("scores", scores)]
        return InferenceResponse(model_name=self.name, outputs=outputs)
