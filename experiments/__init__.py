"""Programs. They use transformers for tokenizers only, which would advise to install PyTorch."""

import os
import sys

from experiments.huge_pages import restart_with_huge_pages

os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
if sys.argv[0] == "-m":  # `python -m experiments...`, of which nothing else is imported yet
    restart_with_huge_pages()
