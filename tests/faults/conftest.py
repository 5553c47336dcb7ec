import sys
from pathlib import Path

import pytest

# The scenarios' own modules lie beside them, whatever way pytest was told to import tests.
sys.path.insert(0, str(Path(__file__).parent))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "scenario(*numbers): its places in the catalogue of failure modes (README.md)"
    )
