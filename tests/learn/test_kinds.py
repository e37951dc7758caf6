from changedet.learn.kinds import Kinds
from changedet.network.semantic import transitions

_COVERS = ("field", "house", "water")
_TRANSITIONS = Kinds(transitions(_COVERS), _COVERS)


def test_pairs_are_those_of_the_names() -> None:
    named = tuple(f"{_COVERS[first]} to {_COVERS[last]}" for first, last in _TRANSITIONS.pairs)
    assert named == _TRANSITIONS.names


def test_a_transition_is_turned_round_with_the_dates() -> None:
    exchanged = _TRANSITIONS.exchanged
    assert exchanged is not None
    names = ("none", *_TRANSITIONS.names)
    assert names[exchanged[names.index("water to field")]] == "field to water"
    assert [exchanged[there] for there in exchanged] == list(range(7)), "twice is as it was"


def test_named_kinds_do_not_say_what_they_become() -> None:
    assert Kinds(("built", "cleared")).exchanged is None
    assert Kinds().exchanged == (0, 1)


def test_a_network_is_built_with_as_many_channels() -> None:
    assert Kinds().arguments("siamese_smp") == {}
    assert Kinds(("built", "cleared")).arguments("bit") == {"classes": 2}
    assert _TRANSITIONS.arguments("siamese_smp") == {"classes": 6}
    assert _TRANSITIONS.arguments("semantic_smp") == {"covers": 3}
