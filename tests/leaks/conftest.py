import sys
from pathlib import Path

# The scripts' common part lies beside them, whatever way pytest was told to import tests.
sys.path.insert(0, str(Path(__file__).parent))
