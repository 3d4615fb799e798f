"""Data: make sure that the data set is on disk. The demo makes itself; others are downloaded, or say how they are got.

``python -m training.download dataset=…``
"""

from __future__ import annotations

from training.config import Settings, stage_main
from training.console import say, say_stage

_MOST = 5  # species named for a rule


def run(settings: Settings) -> None:
    """The stage.

    Raises:
        DatasetError: the data set is not there, and cannot be downloaded.
    """
    dataset = settings.dataset
    dataset.fetch()
    species, recordings, notes = len(dataset.species()), len(dataset.recordings()), dataset.notes()
    say_stage("data", f"{dataset.name}: {recordings} recordings of {species} species")
    if notes.missing:
        say(
            f"          {len(notes.missing)} listed recordings are not on disk, e.g. {notes.missing[0]}", style="yellow"
        )
    for rule, counts in sorted(notes.removed.items()):
        most = sorted(counts.items(), key=lambda count: (-count[1], count[0]))
        named = ", ".join(f"{count} of {code}" for code, count in most[:_MOST])
        say(f"          {sum(counts.values())} left out by {rule}: {named}{', …' if len(most) > _MOST else ''}")


main = stage_main(run)

if __name__ == "__main__":
    main()
