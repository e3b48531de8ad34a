"""What our builders of tensorflow-datasets have in common. Nothing here imports TensorFlow."""

from __future__ import annotations

import json
from pathlib import Path

import tensorflow_datasets as tfds

from riskpo_jax.data.named import NAMED, TFDS_SPLITS, absent, read_named


class ProblemsBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Problems of named sets, read from their JSON Lines files in `manual_dir`.

    The splits are those of `TFDS_SPLITS` whose files are there; `train` must be. A record has the texts
    id, problem, answer, level and metadata (a JSON object).
    """

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        names = ("id", "problem", "answer", "level", "metadata")
        features = tfds.features.FeaturesDict({name: tfds.features.Text() for name in names})
        return self.dataset_info_from_configs(features=features, disable_shuffling=True)

    def _split_generators(self, dl_manager):
        folder = Path(dl_manager.manual_dir)
        sets = {split: NAMED[name] for split, name in TFDS_SPLITS[self.name].items()}
        return {
            split: self._generate_examples(named, folder)
            for split, named in sets.items()
            if split == "train" or not absent(named, folder)
        }

    def _generate_examples(self, named, folder):
        for index, problem in enumerate(read_named(named, folder)):
            yield (
                index,
                {
                    "id": problem.id,
                    "problem": problem.text,
                    "answer": problem.answer,
                    "level": problem.level,
                    "metadata": json.dumps(dict(problem.metadata), ensure_ascii=False),
                },
            )
