"""Metrics of the engines: which one scores each model, and how often ONNX Runtime had to step in."""

from prometheus_client import CollectorRegistry, Counter, Gauge


class EngineMetrics:
    """Label values are names of models and engines, devices and the words of `engines/engine.py`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._info = Gauge(
            "absorb_engine_info",
            "The engine that scores a model, and why it was chosen; the value is always 1.",
            ["model", "engine", "device", "reason"],
            registry=registry,
        )
        self._fallbacks = Counter(
            "absorb_engine_fallbacks",
            "Slates that ONNX Runtime scored since the model's engine could not, by reason.",
            ["model", "engine", "reason"],
            registry=registry,
        )
        self._labels: dict[str, tuple[str, str, str, str]] = {}

    def chosen(self, model: str, engine: str, device: str, reason: str) -> None:
        """Export the engine of a generation that starts to serve."""
        self.unloaded(model)
        self._labels[model] = (model, engine, device, reason)
        self._info.labels(*self._labels[model]).set(1)

    def unloaded(self, model: str) -> None:
        """Remove the engine of a model that no longer serves."""
        if (labels := self._labels.pop(model, None)) is not None:
            self._info.remove(*labels)

    def fell_back(self, model: str, engine: str, reason: str) -> None:
        """Count a slate that ONNX Runtime scored in an engine's place."""
        self._fallbacks.labels(model, engine, reason).inc()
