"""Observations, what a station tells the world: a confirmed detection with an identity and a time.

On the wire they are CloudEvents 1.0 (JSON) whose data are Darwin Core terms, so that a receiver needs no private
format. docs/pipeline.md has an example.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import re
import uuid
from typing import Any

from labous.detect import Detection
from labous.station.settings import Station

EVENT_TYPE = "labous.detection.v1"
# a label of which eBird's code is not known has another, with dashes: that would be no identifier of a taxon
_EBIRD_CODE = re.compile(r"[a-z0-9]+")
_NAMESPACE = uuid.UUID("6f1c9f0e-8b7c-5d39-a6f4-0d2b7f1f5a11")


@dataclasses.dataclass(frozen=True)
class Observation:
    """One species heard at one time, confirmed.

    Attributes:
        id: a UUID that the same detection always has, however often a recording is analyzed or a batch is sent.
        time: when ``detection.start`` was captured, in UTC; None where nobody knows.
        detection: what was heard and where in its stream; ``recording`` is the stream.
        hits: in how many of the windows looked at it was heard.
        identified_by: name and version of the bundle.
    """

    id: str
    time: datetime.datetime | None
    detection: Detection
    hits: int
    identified_by: str

    @classmethod
    def of(
        cls,
        station: str,
        time: datetime.datetime | None,
        detection: Detection,
        hits: int,
        identified_by: str,
        sound: str = "",
    ) -> Observation:
        """With the id of a station's detection: by station, stream, time, place in the stream, species and bundle.

        Where nobody knows the time, ``sound`` takes its place, the digest of what was heard, so that another recording
        under the same name has other ids.
        """
        when = sound if time is None else time.isoformat()
        parts = (station, detection.recording, when, f"{detection.start:.6f}", detection.ebird_code, identified_by)
        return cls(str(uuid.uuid5(_NAMESPACE, json.dumps(parts))), time, detection, hits, identified_by)

    def event(self, station: Station) -> dict[str, Any]:
        """The CloudEvent, ready for JSON."""
        event: dict[str, Any] = {
            "specversion": "1.0",
            "id": self.id,
            "source": f"urn:labous:station:{station.name}",
            "type": EVENT_TYPE,
            "subject": self.detection.ebird_code,
            "datacontenttype": "application/json",
            "data": self.darwin_core(station),
        }
        if self.time is not None:
            event["time"] = timestamp(self.time)
        return event

    def darwin_core(self, station: Station) -> dict[str, Any]:
        """Terms of an Occurrence by their names in https://dwc.tdwg.org/terms/."""
        detection = self.detection
        terms: dict[str, Any] = {
            "occurrenceID": f"urn:uuid:{self.id}",
            "basisOfRecord": "MachineObservation",
            "occurrenceStatus": "present",
            "scientificName": detection.scientific_name,
            "vernacularName": detection.french_name if station.language == "french" else detection.common_name,
            "identifiedBy": self.identified_by,
            "identificationVerificationStatus": "unverified",
            "samplingProtocol": "acoustic monitoring",
            "recordedBy": station.name,
            "dynamicProperties": {
                "probability": round(detection.score, 6),
                "windows": self.hits,
                "stream": detection.recording,
                "startSeconds": round(detection.start, 6),
                "endSeconds": round(detection.end, 6),
            },
        }
        if _EBIRD_CODE.fullmatch(detection.ebird_code):
            terms["taxonID"] = f"ebird:{detection.ebird_code}"
        if self.time is not None:
            end = self.time + datetime.timedelta(seconds=detection.end - detection.start)
            terms["eventDate"] = f"{timestamp(self.time)}/{timestamp(end)}"
        if station.latitude is not None:
            terms |= {
                "decimalLatitude": station.latitude,
                "decimalLongitude": station.longitude,
                "geodeticDatum": "WGS84",
            }
        if station.coordinate_uncertainty is not None:
            terms["coordinateUncertaintyInMeters"] = station.coordinate_uncertainty
        return terms


def timestamp(time: datetime.datetime) -> str:
    """RFC 3339 in UTC, to the millisecond."""
    return time.astimezone(datetime.timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
