"""How many samples of how many cases were written, in plain words."""

import pytest

from anydiff.cli.cases import counted, order_of_cases


@pytest.mark.parametrize(
    ("members", "cases", "says"),
    [
        (1, 1, "1 sample for 1 case"),
        (3, 1, "3 samples for 1 case"),
        (1, 4, "1 sample for each of 4 cases"),
        (2, 3, "2 samples for each of 3 cases"),
    ],
)
def test_one_is_one(members, cases, says):
    assert counted(members, cases) == says
    assert bool(order_of_cases(members, cases)) == (members > 1 and cases > 1)
