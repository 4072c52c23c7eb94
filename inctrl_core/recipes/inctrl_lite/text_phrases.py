"""Wordings that the text tower learns: templates, and states: intact, damaged or neither."""

from __future__ import annotations

from ...model.prompts import ANOMALY_STATES, NORMAL_STATES, TEMPLATES

# Never trained on: they measure whether a noun is found under a wording that is new.
HELD_OUT_TEMPLATES = ("a snapshot of the {}.", "here is one {}, up close.", "my {} in a picture.")

TRAINING_TEMPLATES = (
    *TEMPLATES,
    "{}",
    "{}.",
    "the {}",
    "a {}",
    "an image of a {}.",
    "an image of the {}.",
    "a picture of a {}.",
    "a picture of the {}.",
    "a photograph of one {}.",
    "this is a photo of a {}.",
    "there is a {} in the image.",
    "a microscope image of a {}.",
    "a black and white photo of a {}.",
    "a photo of {} for anomaly detection.",
)
ABSENCE_TEMPLATES = (
    "a photo without {} for anomaly detection.",
    "a photo without {}.",
    "a photo without a {}.",
)

NEUTRAL_STATES = ("{}", "{}", "{}", "one {}", "{} on a table", "red {}", "green {}", "single {}")

_DAMAGED_ADJECTIVES = (
    "damaged broken cracked scratched stained defective faulty flawed chipped dented torn worn "
    "bent burnt burned rusty corroded contaminated dirty ruined imperfect abnormal anomalous bad "
    "deformed crushed punctured unhealthy diseased smashed shattered ripped cut scuffed"
).split()
_DAMAGES = (
    "flaw flaws defect defects damage damages crack cracks scratch scratches hole holes stain "
    "stains dent dents anomaly anomalies imperfection imperfections contamination"
).split()
_INTACT_ADJECTIVES = (
    "flawless perfect unblemished clean new intact undamaged pristine normal good healthy unbroken "
    "faultless spotless unscratched"
).split()

DAMAGED_STATES = (
    *ANOMALY_STATES,
    *(f"{adjective} {{}}" for adjective in _DAMAGED_ADJECTIVES),
    *(f"{{}} with {damage}" for damage in _DAMAGES),
    *(f"{{}} with a {damage}" for damage in _DAMAGES if damage[-1] != "s"),
    "{} in bad condition",
)
INTACT_STATES = (
    *(state for state in NORMAL_STATES if state != "{}"),
    *(f"{adjective} {{}}" for adjective in _INTACT_ADJECTIVES),
    *(f"{{}} without {damage}" for damage in _DAMAGES),
    *(f"{{}} without any {damage}" for damage in _DAMAGES),
    *(f"{{}} with no {damage}" for damage in _DAMAGES),
    "{} in good condition",
    "{} in perfect condition",
    "brand new {}",
)
