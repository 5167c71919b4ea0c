"""Masks in their compact form, and from there to polygons, PNG files and run lengths."""

from __future__ import annotations

from saccade.results import MaskForm, Masks


def rendered(masks: Masks, form: MaskForm) -> Masks:
    """The same segments in another form; only a result in the "crop" form can be turned into others."""
    raise NotImplementedError
