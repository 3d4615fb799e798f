"""A competition's data through Kaggle's own client: downloaded, counted, unpacked beside its place and moved there."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from training.datasets.base import DatasetError
from training.datasets.downloads.archive import open_archive, unpack
from training.files import write_text

WORKPLACE = ".download"  # in the data set's folder, until all is there
KEPT = ".species-kept.json"  # which species were unpacked, where not all were
_RECORDINGS = "train_short_audio"
_METADATA = "train_metadata.csv"
_TOKEN = "create a token on your Kaggle account's settings page and save it as it says there"


@dataclass(frozen=True)
class Competition:
    """What to download, and what must arrive.

    Attributes:
        slug: the competition's name in Kaggle's addresses.
        recordings: files in train_short_audio/.
        folders: folders there, one per species.
        keep_archive: whether the archive stays in the data set's folder after it is unpacked.
    """

    slug: str
    recordings: int
    folders: int
    keep_archive: bool = False

    def fetch(self, root: Path, species: Sequence[str] | None, progress: bool) -> None:
        """Download the competition into `root`, which must be new, empty, half downloaded or lack some species.

        An archive that lies there already, under the name that Kaggle gives it, is unpacked and left.

        :param species: codes whose recordings are unpacked, besides all that is not a recording; all of them when None
        :raises DatasetError: without credentials or accepted rules, without network, for an archive other than
            expected, and for a folder with something else in it
        """
        work, own = root / WORKPLACE, root / f"{self.slug}.zip"
        ours = own.is_file() or (root / WORKPLACE).is_dir() or (root / KEPT).is_file()
        if root.is_file() or (root.is_dir() and not ours and next(root.iterdir(), None) is not None):
            raise DatasetError(f"{root} holds something else than {self.slug}: set dataset.root to a new folder")
        work.mkdir(parents=True, exist_ok=True)
        whole = own if own.is_file() else work / "archive.zip"
        if not whole.is_file():
            download(self.slug, work, progress).replace(whole)
        with open_archive(whole) as archive:
            self._check(archive.namelist(), whole)
            unpack(archive, work / "files", lambda name: _is_wanted(name, species), progress)
        _move_below(work / "files", root)
        if species is None:
            (root / KEPT).unlink(missing_ok=True)
        else:
            kept = kept_species(root) or set()
            write_text(root / KEPT, json.dumps(sorted(kept | set(species))) + "\n")
        (work / "files" / _METADATA).replace(root / _METADATA)  # the last: with it the data set counts as there
        if self.keep_archive:
            whole.replace(own)
        shutil.rmtree(work)

    def _check(self, names: Sequence[str], whole: Path) -> None:
        paths = [PurePosixPath(name) for name in names if not name.endswith("/")]
        files = [path for path in paths if path.parts[0] == _RECORDINGS]
        folders = {path.parent for path in files}
        if len(files) != self.recordings or len(folders) != self.folders or PurePosixPath(_METADATA) not in paths:
            raise DatasetError(
                f"{self.slug} has {len(files):,} recordings in {len(folders)} folders instead of "
                f"{self.recordings:,} in {self.folders}, or no {_METADATA}: delete {whole} and run the same again, or "
                "correct dataset.download if the competition has changed"
            )


def kept_species(root: Path) -> set[str] | None:
    """Codes of the species that were unpacked into a folder; None where nothing was left away."""
    try:
        return set(json.loads((root / KEPT).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def download(slug: str, folder: Path, progress: bool) -> Path:
    """Download a competition's archive, or what is missing of it; return its path.

    :raises DatasetError: in one sentence for each thing that can be in the way
    """
    import requests
    import urllib3

    again = "the same command continues where this one stopped"
    try:
        # the client tells of its doings on standard output; its progress bar goes to standard error
        with contextlib.redirect_stdout(io.StringIO()):
            quiet = not (progress and sys.stderr.isatty())
            _client().competition_download_files(slug, path=str(folder), quiet=quiet)
    except SystemExit:  # raised instead of an exception where nobody is signed in
        raise DatasetError(
            f"Kaggle does not know who asks for {slug}: {_TOKEN} (~/.kaggle/kaggle.json, KAGGLE_API_TOKEN, or "
            f"KAGGLE_USERNAME and KAGGLE_KEY), accept the rules at https://www.kaggle.com/c/{slug}/rules, and run the "
            "same again"
        ) from None
    except requests.HTTPError as error:
        raise DatasetError(_refusal(slug, error.response)) from None
    except (requests.RequestException, urllib3.exceptions.HTTPError, ValueError) as error:
        # the kind of the error only: the addresses in its text are signed, and as good as a password for a while
        kind = type(error).__name__
        raise DatasetError(f"{slug} could not be downloaded ({kind}): check the network; {again}") from None
    found = sorted(folder.glob(f"{slug}.*"))
    if len(found) != 1:
        raise DatasetError(f"Kaggle left no archive of {slug} in {folder}: {again}")
    return found[0]


def _client() -> Any:
    try:
        from kaggle.api.kaggle_api_extended import KaggleApi
    except ImportError as error:
        raise DatasetError(f"the package kaggle cannot be imported ({error}): run make setup again") from error
    api = KaggleApi()
    api.authenticate()
    return api


def _refusal(slug: str, response: Any) -> str:
    status = None if response is None else response.status_code
    if status == 401:
        return f"Kaggle refuses your credentials (401): {_TOKEN}, and run the same again"
    if status == 403:
        return (
            f"Kaggle does not let you have {slug} (403): accept its rules at https://www.kaggle.com/c/{slug}/rules "
            "with the account of your credentials, and run the same again"
        )
    if status == 404:
        return f"Kaggle knows no competition {slug} (404): correct dataset.download.slug"
    return f"Kaggle answered {status} when asked for {slug}: try again later; what has arrived is kept"


def _is_wanted(name: str, species: Sequence[str] | None) -> bool:
    path = PurePosixPath(name)
    is_recording = len(path.parts) > 2 and path.parts[0] == _RECORDINGS
    return species is None or not is_recording or path.parts[1] in species


def _move_below(source: Path, root: Path) -> None:
    """Move all files but the metadata to where they belong."""
    for path in sorted(path for path in source.rglob("*") if path.is_file() and path != source / _METADATA):
        target = root / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)
