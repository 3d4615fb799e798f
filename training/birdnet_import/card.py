"""The model card of an imported bundle, and what its licence asks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from training.birdnet_import.names import Selection
from training.teacher.birdnet import LICENCE, NAME

CONSEQUENCE = (
    "The weights are BirdNET v2.4's, licensed CC BY-NC-SA 4.0, and so is this bundle: use it for non-commercial "
    "purposes, name BirdNET (K. Lisa Yang Center for Conservation Bioacoustics, Cornell Lab of Ornithology, and "
    "Chemnitz University of Technology), and pass it on under the same licence."
)
NOTICE = f"""{NAME}
Copyright K. Lisa Yang Center for Conservation Bioacoustics at the Cornell Lab of Ornithology, and Chemnitz University
of Technology. Licensed under Creative Commons Attribution-NonCommercial-ShareAlike 4.0 International ({LICENCE}):
https://creativecommons.org/licenses/by-nc-sa/4.0/legalcode

Changed: the spectrogram was cut off the graph and is computed by melspec.wasm, shapes were folded to constants, and of
the last layer the rows of the classes in labels.csv were kept. Smaller weights, where there are such, were rounded.

{CONSEQUENCE}
"""


def card(manifest: Mapping[str, Any], selection: Selection, proof: Mapping[str, Mapping[str, float]]) -> str:
    """Markdown.

    Args:
        manifest: of the bundle.
        selection: what was kept, and what has no class.
        proof: by weights, how far scores lie from the original's on generated sound.
    """
    frontend = manifest["frontend"]
    birds = [kept for kept in selection.kept if kept.is_bird]
    names = "\n".join(
        f"| {kept.label.ebird_code} | *{kept.label.scientific_name}* | {kept.label.common_name} | "
        f"{kept.label.french_name} | {'' if kept.is_bird else 'no'} |"
        for kept in selection.kept
    )
    without = ", ".join(f"{bird.scientific_name} ({bird.ebird_code})" for bird in selection.without_class)
    missing = f"\nThe table asked for these too, and BirdNET has no class for them: {without}.\n" if without else ""
    shifts, threshold = len(frontend["shifts"]), next(iter(manifest["detection"]["thresholds"].values()))
    averaged = (
        f"\nEach window is heard {shifts} times, begun at samples {', '.join(map(str, frontend['shifts']))}, and the "
        "logits are averaged.\n"
        if shifts > 1
        else ""
    )
    rows = "\n".join(
        f"| {kind} | {manifest['models'][kind]['bytes']:,} | {told['score']:.1e} | {told['logit']:.1e} | "
        f"{told['top1_equal']:.0%} |"
        for kind, told in proof.items()
    )
    return f"""# {manifest["name"]} {manifest["version"]}

{NAME} for {len(birds)} species of birds and {len(selection.kept) - len(birds)} other sounds, in windows of
{frontend["window_seconds"]:g} s at {frontend["sample_rate"]} Hz. Its spectrogram, which BirdNET computes inside its
graph, is computed by `melspec.wasm` here; the rest is BirdNET's own, number by number.

## Licence

{NAME}: **{LICENCE}**. {CONSEQUENCE}

The file was the user's own, sha256 `{manifest["revision"]["data"]}`.

## How near it is to the original

On generated sound, both in LiteRT. docs/birdnet.md of Labous has figures on real recordings.

| weights | bytes | largest difference of a score | of a logit | same class first |
| --- | --- | --- | --- | --- |
{rows}
{averaged}
## Limits

- How good BirdNET is where you are, this does not say: nothing was measured on labelled sound. See BirdNET's own
  publications.
- A score is not the probability that the bird was there. One threshold, {threshold:g},
  holds for all species, and was not chosen for any.
- Scores depend on where a window begins, to a fraction of a millisecond; `phase_average` evens that out.
- Classes that are no birds are never reported as detections.

## Classes
{missing}
| code | scientific name | name | nom français | a bird |
| --- | --- | --- | --- | --- |
{names}
"""
