"""`init`: a home and its key."""

import argparse
import json
import shlex

from flock_peers.home import Home


def run(arguments: argparse.Namespace) -> int:
    home = Home(arguments.home)
    key = home.create_key()
    if arguments.json:
        print(json.dumps({"home": str(home.path), "account": "0x" + key.account.hex(), "key": str(home.key_path)}))
        return 0
    print(f"home     {home.path}")
    print(f"account  0x{key.account.hex()}")
    print(f"key      {home.key_path}  (back it up: it is this peer's identity and its stake; never share it)")
    print(f"next     python -m flock_p2p join --home {shlex.quote(str(home.path))} --bootstrap ADDRESS")
    print("         (on the local network of a running peer without --bootstrap ADDRESS)")
    return 0
