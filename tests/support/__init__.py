"""Helpers that tests share: real servers and processes, and an engine in its own folder."""

from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
