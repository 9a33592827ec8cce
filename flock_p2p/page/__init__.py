"""The web page of a peer: what it shows, as bounded JSON (docs/page.md), and the files that show it. Cannot act."""
