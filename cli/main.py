"""The ``featstore`` command: groups are imported only when called, so that ``--help`` is quick."""

from __future__ import annotations

import importlib
import logging
import os
import sys

import click

from featstore.errors import FeatstoreError
from featstore.version import __version__

__all__ = ["cli", "main"]

# name -> (module:attribute, one line for the listing)
COMMANDS: dict[str, tuple[str, str]] = {
    "quickstart": ("quickstart:quickstart", "The whole path on built-in music, in minutes."),
    "datasets": ("datasets:datasets", "List, index, check and split collections of music."),
    "plan": ("extract:plan", "Say what an extraction would compute and cost."),
    "extract": ("extract:extract", "Compute features of all tracks into a store."),
    "status": ("extract:status", "Say how far an extraction is, and what failed."),
    "store": ("store:store", "Look into stores, check and mend them."),
    "train": ("train:train", "Train a model from a store."),
    "evaluate": ("train:evaluate", "Score a trained model again."),
    "sonify": ("sonify:sonify", "Hear what a representation keeps."),
