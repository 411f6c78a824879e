"""What tests share: real servers and processes, the engine in a folder of its own, and what they are told and asked."""

from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
