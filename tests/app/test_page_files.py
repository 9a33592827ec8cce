"""The files of a page: all are shipped, none loads anything from elsewhere, and none makes an element of text."""

import re
from pathlib import Path

from flock_chain.audit_rule import GUILTY_FROM, SUSPECT_FROM
from flock_p2p.page import assets as assets_module
from flock_p2p.page.assets import load_assets, make_policy

STATIC = Path(assets_module.__file__).parent / "static"


def test_the_page_loads_nothing_from_elsewhere_and_makes_no_element_of_text() -> None:
    assets = load_assets()
    assert {"/", "/page/main.js", "/page/base.css", "/page/vendor/uPlot.iife.min.js"} <= set(assets)
    assert not any(path.endswith("LICENSE") for path in assets) and (STATIC / "vendor" / "uPlot.LICENSE").is_file()
    for path, (data, _) in assets.items():
        text = data.decode()
        foreign = set(re.findall(r"https?://[^\s\"'`)]+", text)) - {"http://www.w3.org/2000/svg"}
        assert not foreign or "vendor" in path, (path, foreign)
        if path.endswith(".js") and "vendor" not in path:
            for word in (
                "innerHTML",
                "outerHTML",
                "insertAdjacent",
                "document.write",
                "eval(",
                "new Function",
                "srcdoc",
            ):
                assert word not in text, (path, word)
    index = assets["/"][0].decode()
    assert set(re.findall(r'(?:src|href)="([^"#]+)"', index)) <= set(assets)
    assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=|style=", index)
    policy = make_policy(4280)
    assert "default-src 'none'" in policy and "unsafe" not in policy and "require-trusted-types-for" in policy


def test_the_page_names_the_audits_own_bounds() -> None:
    text = (STATIC / "plots.js").read_text()
    for name, value in (("GUILTY", GUILTY_FROM), ("SUSPECT", SUSPECT_FROM)):
        assert f"const {name} = {value // 10_000};" in text


def test_every_module_that_is_imported_is_shipped() -> None:
    assets = load_assets()
    for path, (data, _) in assets.items():
        if path.endswith(".js"):
            for name in re.findall(r'from "\./([\w.]+)"', data.decode()):
                assert f"/page/{name}" in assets, (path, name)
