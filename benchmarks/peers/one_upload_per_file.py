"""Objects kept by hand: one upload for each file, one after the other, in the loop that everybody writes.

python one_upload_per_file.py URL ENDPOINT < lines of NAME and PATH
"""

from __future__ import annotations

import sys
from pathlib import Path

import obstore
from obstore.store import from_url


def main() -> None:
    url, endpoint = sys.argv[1:]
    config = {"endpoint": endpoint, "region": "us-east-1", "access_key_id": "a", "secret_access_key": "b"}
    store = from_url(url, config=config, client_options={"allow_http": True})
    for line in sys.stdin:
        name, path = line.rstrip("\n").split("\t")
        obstore.put(store, name, Path(path).read_bytes())


if __name__ == "__main__":
    main()
