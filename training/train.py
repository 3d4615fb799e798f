"""The whole path with the composed configuration: data, prepare, fit, export, validate, bundle.

``python -m training.train`` skips every stage that is up to date, continues after Ctrl-C, and ends with a table of
what came out.
"""

from __future__ import annotations

from training.config import Settings, stage_main


def run(settings: Settings) -> None:
    """Every stage in order, then the closing table."""
    # imported here, where Ctrl-C is already told in a sentence: they take seconds
    from training import bundle, download, export, fit, occurrence, prepare, report, summary, teach, validate

    # the bundle needs them last: a mistake is told before hours of training rather than after
    occurrence.read_all(settings.bundle.occurrence, settings.bundle.least_checklists)
    for stage in (download, prepare, teach, fit, export, validate, bundle, report):
        stage.run(settings)
    summary.show(settings)


main = stage_main(run)

if __name__ == "__main__":
    main()
