"""``labous info``: what a bundle holds and whether it is intact."""

from __future__ import annotations

import argparse
import dataclasses

from labous.bundle import Bundle
from labous.columns import aligned, table
from labous.manifest import Detection, Source, Teacher
from labous.power_law import AnyFrontend
from labous.station.occurrence import FILE as OCCURRENCE

_METRICS = ("macro_roc_auc", "cmap", "top1", "row_f1", "ece")


def run(arguments: argparse.Namespace) -> int:
    """Print a bundle's contents; a damaged one raises."""
    bundle = Bundle.read(arguments.bundle)
    bundle.announce()
    for line in _lines(bundle):
        print(line)
    return 0


def _lines(bundle: Bundle) -> list[str]:
    manifest, dataset = bundle.manifest, bundle.manifest.dataset
    size = sum(map(len, bundle.files.values()))
    what = "SYNTHETIC, knows no real bird" if dataset.synthetic else "real recordings"
    extent = f"{dataset.name} ({what}): {dataset.recordings} recordings, {dataset.hours:g} h"
    if manifest.source is not None and not dataset.recordings:
        extent = f"{dataset.name}: that of the model it was made of, see below"
    lines = [
        f"{manifest.name} {manifest.version}",
        "",
        *aligned(
            [
                ("intact", f"yes: {len(bundle.files)} files, {size:,} bytes"),
                ("dataset", extent),
                ("needs", f"labous {manifest.min_runtime} or later"),
                ("revision", f"code {manifest.revision.code}, data {manifest.revision.data}"),
                ("mel module", f"{manifest.mel.file}, ABI version {manifest.mel.abi_version}"),
                *([("libraries", f"for {', '.join(manifest.native)}")] if manifest.native else []),
                *([] if manifest.licence is None else [("licence", manifest.licence)]),
                *(
                    [("occurrence", f"by place and week, for a station: {OCCURRENCE}")]
                    if OCCURRENCE in bundle.files
                    else []
                ),
            ]
        ),
        *_licensed_lines("Made of", manifest.source),
        *_licensed_lines("Teacher", manifest.teacher),
        *_frontend_lines(bundle.frontend),
        "",
        "Models",
        *table(
            ["", "file", "input", "parameters", "MACs", "bytes"],
            [
                [name, m.file, "x".join(map(str, m.input.shape)), f"{m.parameters:,}", f"{m.macs:,}", f"{m.bytes:,}"]
                for name, m in manifest.models.items()
            ],
        ),
        *(
            f"  {name} ops: {', '.join(f'{op.count} {op.name} v{op.version}' for op in m.ops)}"
            for name, m in manifest.models.items()
        ),
        *([] if manifest.onnx is None else [f"  ONNX: {manifest.onnx.file}, opset {manifest.onnx.opset}"]),
    ]
    if manifest.metrics:
        names = [n for n in _METRICS if any(scores.get(n) is not None for scores in manifest.metrics.values())]
        rows = [[engine, *(_score(scores.get(n)) for n in names)] for engine, scores in manifest.metrics.items()]
        measured = table(["", *names], rows) if names else ["  none: nothing was held out to test on"]
        lines += ["", "Metrics", *measured]
    species = [
        [*dataclasses.astuple(label), *_decided(manifest.detection, label.ebird_code)]
        for label, not_bird in zip(bundle.labels, bundle.not_birds, strict=True)
        if not not_bird
    ]
    header = ["code", "scientific name", "name", "nom", "threshold"]
    if manifest.detection.calibration:
        header += ["scale", "offset"]
    lines += ["", "Detection", *aligned(_rules(manifest.detection))]
    lines += ["", f"Species ({len(species)})", *table(header, species)]
    others = [dataclasses.astuple(label) for label in bundle.labels if label.ebird_code in manifest.detection.not_birds]
    if others:
        lines += ["", f"Not birds, never detected ({len(others)})", *table(header[:4], [list(row) for row in others])]
    return lines


def _licensed_lines(title: str, model: Source | Teacher | None) -> list[str]:
    if model is None:
        return []
    pairs = [("name", model.name), ("licence", model.licence), ("consequence", model.consequence)]
    return ["", title, *aligned(pairs)]


def _frontend_lines(frontend: AnyFrontend) -> list[str]:
    """Every constant; those of several channels as a row each."""
    constants = frontend.to_dict()
    channels = constants.pop("channels", [])
    lines = ["", "Front end", *aligned([(name, _shown(value)) for name, value in constants.items()])]
    if channels:
        rows = [[str(n), *map(_shown, channel.values())] for n, channel in enumerate(channels)]
        lines += table(["channel", *channels[0]], rows)
    return lines


def _rules(detection: Detection) -> list[tuple[str, str]]:
    weight, confirmation = detection.neighbor_weight, detection.confirmation
    changed = any((c.scale, c.offset) != (1.0, 0.0) for c in detection.calibration.values())
    calibrated = "of each species by itself" if changed else "none: scores are the model's own"
    return [
        ("calibration", calibrated),
        ("smoothing", f"{weight:g} of each neighboring window" if weight else "none"),
        ("confirmation", f"{confirmation.hits} of {confirmation.windows} windows, for a station"),
    ]


def _decided(detection: Detection, code: str) -> list[str]:
    """A label's threshold, and its calibration where there is one."""
    found = [f"{detection.thresholds[code]:.2f}"]
    if detection.calibration:
        calibration = detection.calibration[code]
        found += [f"{calibration.scale:.2f}", f"{calibration.offset:.2f}"]
    return found


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(_shown, value))
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
