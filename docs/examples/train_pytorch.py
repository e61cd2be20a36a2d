"""A plain PyTorch training that reports to Epochlog and goes on where a killed attempt ended.

By hand it just trains: `python docs/examples/train_pytorch.py`. As a job's trainer, it is what
`EPOCHLOG_TRAINER_COMMAND` names; the lines with `run` are all that it needs for that.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import nn

from trainer.client import Run, epochlog_run

EPOCHS = int(os.environ.get("EPOCHS", "10"))
BATCHES = 100
JOB = os.environ.get("JOB_ID", "by-hand")
CHECKPOINTS = Path(os.environ.get("BUCKET", "."), "checkpoints", f"job-{JOB}")


def main() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    with epochlog_run(optional=True) as run:
        first = 1
        if checkpoint := run.resume_from:
            state = torch.load(checkpoint.path)
            model.load_state_dict(state["model"])
            optimizer.load_state_dict(state["optimizer"])
            first = state["epoch"] + 1
        for epoch in range(first, EPOCHS + 1):
            loss, accuracy = train_epoch(model, optimizer, run, epoch)
            print(f"epoch {epoch}: loss {loss:.4f}, accuracy {accuracy:.3f}", flush=True)
            run.epoch_end(epoch, {"loss": loss, "accuracy": accuracy}, epochs=EPOCHS)
            run.checkpoint_saved(epoch, save(epoch, model, optimizer))
            run.check()  # here is a good place to end, if somebody asked for it
        run.artifact("last.pt", CHECKPOINTS / f"epoch-{EPOCHS}.pt")


def train_epoch(
    model: nn.Module, optimizer: torch.optim.Optimizer, run: Run, epoch: int
) -> tuple[float, float]:
    """Learn whether a point lies within a circle; return the mean loss and accuracy."""
    losses, hits = [], []
    for batch in range(1, BATCHES + 1):
        points = torch.rand(64, 2) * 2 - 1
        inside = (points.norm(dim=1, keepdim=True) < 0.7).float()
        guessed = model(points)
        loss = nn.functional.binary_cross_entropy_with_logits(guessed, inside)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
        hits.append(((guessed > 0) == (inside > 0)).float().mean())
        run.reach(epoch=epoch, epochs=EPOCHS, batch=batch, batches=BATCHES)
    return float(torch.stack(losses).mean()), float(torch.stack(hits).mean())


def save(epoch: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> Path:
    """Write a checkpoint that is there whole or not at all, and is never overwritten."""
    CHECKPOINTS.mkdir(parents=True, exist_ok=True)
    file = CHECKPOINTS / f"epoch-{epoch}.pt"
    part = file.with_suffix(".part")
    state = {"epoch": epoch, "model": model.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(state, part)
    return part.replace(file)


if __name__ == "__main__":
    main()
