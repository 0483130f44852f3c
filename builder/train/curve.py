"""The learning curve of a training, drawn."""

from pathlib import Path

from builder.checkpoint import Checkpoint

CURVE = "curve.png"


def plot_curve(checkpoint: Checkpoint, folder: Path) -> Path:
    """Draw the training loss, the validation's log loss and its GAUC (or AUC) by step; return the file.

    Args:
        checkpoint: of a finished training.
        folder: where `curve.png` goes; made if absent.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # here: training runs without it
    from matplotlib.figure import Figure

    curve = checkpoint.history
    steps = [line["step"] for line in curve]
    metric = "auc" if curve[-1]["gauc"] is None else "gauc"
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for name, label in (("train_loss", "training"), ("log_loss", "validation")):
        left.plot(steps, [line[name] for line in curve], label=label)
    left.set_ylabel("log loss, nats")
    right.plot(steps, [line[metric] for line in curve], label="validation")
    right.set_ylabel(metric.upper())
    for axes in (left, right):
        axes.axvline(checkpoint.best_step, color="grey", linestyle=":", label="kept weights")
        axes.set_xlabel("step")
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    ends = {"patience": "no longer improving", "max_steps": "most steps", "time": "time was up"}
    figure.suptitle(f"{checkpoint.model}: ended at step {steps[-1]:,} ({ends[checkpoint.ended]})")
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / CURVE, dpi=120)
    return folder / CURVE
