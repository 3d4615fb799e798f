"""Data: make sure that the data set is on disk. The demo makes itself; others say how they are got.

``python -m training.download dataset=…``
"""

from __future__ import annotations

from training.config import Settings, stage_main
from training.console import say_stage


def run(settings: Settings) -> None:
    """The stage.

    Raises:
        DatasetError: the data set is not there, and has to be fetched by its user.
    """
    dataset = settings.dataset
    dataset.fetch()
    species, recordings = len(dataset.species()), len(dataset.recordings())
    say_stage("data", f"{dataset.name}: {recordings} recordings of {species} species")


main = stage_main(run)

if __name__ == "__main__":
    main()
