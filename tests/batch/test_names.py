import re

from hypothesis import given
from hypothesis import strategies as st

from changedet.batch.manifest import _SAFE_ID
from changedet.batch.names import distinct, slug


@given(st.text())
def test_any_text_becomes_a_name_that_a_manifest_takes(text):
    assert re.fullmatch(_SAFE_ID, slug(text))


@given(st.lists(st.sampled_from(["a", "A", "a-2", "b"])))
def test_names_become_distinct_and_stay_in_order(names):
    told = distinct(names)
    assert len({name.lower() for name in told}) == len(names)
    assert all(own.startswith(name) for own, name in zip(told, names, strict=True))
