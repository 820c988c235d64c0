# SPDX-License-Identifier: Apache-2.0
"""The agenda: order, changes of mind, things taken out."""

from __future__ import annotations

import random

from ovfs.remote.agenda import Agenda


def test_the_earliest_comes_first_and_nothing_before_its_time() -> None:
    agenda: Agenda[str] = Agenda()
    agenda.set("late", 3.0)
    agenda.set("soon", 1.0)
    assert agenda.next_due() == 1.0
    assert agenda.take(0.5) is None
    assert agenda.take(1.0) == "soon"
    assert agenda.take(2.9) is None
    assert agenda.take(3.0) == "late"
    assert agenda.take(9.0) is None
    assert agenda.next_due() is None


def test_what_is_due_at_one_time_comes_in_the_order_in_which_it_was_entered() -> None:
    agenda: Agenda[str] = Agenda()
    for name in "cab":
        agenda.set(name, 1.0)
    assert [agenda.take(1.0) for _ in range(4)] == ["c", "a", "b", None]


def test_only_the_last_time_of_a_thing_counts() -> None:
    agenda: Agenda[str] = Agenda()
    agenda.set("x", 1.0)
    agenda.set("x", 5.0)
    assert agenda.take(4.0) is None
    agenda.set("x", 2.0)
    assert agenda.take(4.0) == "x"
    assert agenda.take(9.0) is None
    agenda.set("x", 1.0)
    agenda.drop("x")
    agenda.drop("x")
    assert agenda.next_due() is None


def test_it_agrees_with_a_plain_dictionary() -> None:
    rng = random.Random(3)
    agenda: Agenda[int] = Agenda()
    model: dict[int, float] = {}
    for _ in range(5000):
        thing, time = rng.randrange(20), float(rng.randrange(100))
        match rng.randrange(3):
            case 0:
                agenda.set(thing, time)
                model[thing] = time
            case 1:
                agenda.drop(thing)
                model.pop(thing, None)
            case _:
                taken = agenda.take(time)
                due = min(model.values(), default=None)
                assert (taken is not None) == (due is not None and due <= time)
                if taken is not None:
                    assert model.pop(taken) == due
        assert agenda.next_due() == min(model.values(), default=None)
