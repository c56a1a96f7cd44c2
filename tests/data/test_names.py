import subprocess
import sys

import pytest

import umbel.data


def test_every_public_name_can_be_had_and_is_listed():
    assert dir(umbel.data) == sorted(umbel.data.__all__)
    for name in umbel.data.__all__:
        value = getattr(umbel.data, name)
        assert getattr(value, "__name__", name) == name
        assert value.__doc__


def test_a_wrong_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"module 'umbel.data' has no attribute 'Dirichlet'"):
        _ = umbel.data.Dirichlet


def test_all_names_together_load_none_of_the_optional_libraries():
    heavy = "{'pandas', 'pyarrow', 'matplotlib', 'datasets', 'torch', 'scipy', 'sklearn'}"
    code = f"import sys; from umbel.data import *; print(sorted({heavy} & set(sys.modules)), IID, heart_disease)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("[] <class")
