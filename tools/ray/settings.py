"""What serve.yaml says under `args`; that file explains each."""

from pathlib import PurePosixPath

from pydantic import BaseModel, ConfigDict, NonNegativeFloat, PositiveInt, field_validator

# What the replica says by itself.
OWN = ("--host", "--port", "--slots", "--max-queue")


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid")

    program: str = "quarry"
    slab: str | None = None
    arguments: list[str] = []
    slots: PositiveInt = 4
    min_replicas: PositiveInt = 1
    max_replicas: PositiveInt = 1
    cpus: NonNegativeFloat = 1
    max_queue: PositiveInt = 64
    grace: PositiveInt = 600
    autoscaling: dict = {}

    @field_validator("slab")
    @classmethod
    def is_everywhere(cls, slab: str | None) -> str | None:
        if slab is not None and not PurePosixPath(slab).is_absolute():
            raise ValueError(f"{slab}: nodes need an absolute path")
        return slab

    @field_validator("arguments")
    @classmethod
    def are_not_ours(cls, arguments: list[str]) -> list[str]:
        for argument in arguments:
            if argument.partition("=")[0] in OWN:
                raise ValueError(f"{argument}: every replica says this by itself")
        return arguments

    def command(self) -> list[str]:
        """Of a server on any free port. Whoever waits does so before the servers, where a free one is
        seen; only requests that are already on their way find a queue here."""
        slab = [] if self.slab is None else [self.slab]
        return [
            self.program, "serve", *slab, "--host", "127.0.0.1", "--port", "0",
            "--slots", str(self.slots), "--max-queue", str(self.most_at_once()), *self.arguments]

    def most_at_once(self) -> int:
        """Requests that a replica takes: as many wait as run, so that no slot is idle between two."""
        return 2 * self.slots
