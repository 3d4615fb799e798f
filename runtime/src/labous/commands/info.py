"""``labous info``: what a bundle holds and whether it is intact."""

from __future__ import annotations

import argparse

from labous.bundle import Bundle

_METRICS = ("macro_roc_auc", "cmap", "top1", "row_f1")


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
    lines = [
        f"{manifest.name} {manifest.version}",
        "",
        *_aligned(
            [
                ("intact", f"yes: {len(bundle.files)} files, {size:,} bytes"),
                ("dataset", f"{dataset.name} ({what}): {dataset.recordings} recordings, {dataset.hours:g} h"),
                ("needs", f"labous {manifest.min_runtime} or later"),
                ("revision", f"code {manifest.revision.code}, data {manifest.revision.data}"),
                ("mel module", f"{manifest.mel.file}, ABI version {manifest.mel.abi_version}"),
            ]
        ),
        "",
        "Front end",
        *_aligned([(name, _shown(value)) for name, value in bundle.frontend.to_dict().items()]),
        "",
        "Models",
        *_table(
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
        f"  ONNX: {manifest.onnx.file}, opset {manifest.onnx.opset}",
    ]
    if manifest.metrics:
        names = [n for n in _METRICS if any(n in scores for scores in manifest.metrics.values())]
        rows = [[engine, *(_score(scores.get(n)) for n in names)] for engine, scores in manifest.metrics.items()]
        lines += ["", "Metrics", *_table(["", *names], rows)]
    species = [
        [d.ebird_code, d.scientific_name, d.common_name, d.french_name, f"{manifest.thresholds[d.ebird_code]:.2f}"]
        for d in bundle.labels
    ]
    lines += [
        "",
        f"Species ({len(species)})",
        *_table(["code", "scientific name", "name", "nom", "threshold"], species),
    ]
    return lines


def _shown(value: object) -> str:
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _aligned(pairs: list[tuple[str, str]]) -> list[str]:
    width = max(len(name) for name, _ in pairs)
    return [f"  {name:<{width}}  {value}" for name, value in pairs]


def _table(header: list[str], rows: list[list[str]]) -> list[str]:
    """Columns as wide as their widest cell; numbers to the right."""
    columns = list(zip(header, *rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    right = [all(cell[:1].isdigit() or cell == "-" for cell in column[1:]) for column in columns]
    return [
        "  " + "  ".join(f"{c:>{w}}" if r else f"{c:<{w}}" for c, w, r in zip(row, widths, right, strict=True)).rstrip()
        for row in [header, *rows]
    ]
