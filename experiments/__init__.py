"""Programs. They use transformers for tokenizers only, which would advise to install PyTorch."""

import os

os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
