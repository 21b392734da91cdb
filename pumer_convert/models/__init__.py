"""Model families. A family is a module (see `Family` in outline.py) and one line here."""

FAMILIES = {
    "vilt": "pumer_convert.models.vilt",
    "meter": "pumer_convert.models.meter",
}
