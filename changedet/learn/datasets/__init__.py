"""Labelled pairs in the layouts they are downloaded in, one scene at a time."""

from changedet.learn.datasets.overlap import refuse_overlap
from changedet.learn.datasets.scene import LabelledDataset, SceneSource
from changedet.learn.datasets.training import LabelledScene, TrainingScene, load_scene, training_scenes
from changedet.learn.datasets.which import dataset_of, open_dataset

__all__ = [
    "LabelledDataset",
    "LabelledScene",
    "SceneSource",
    "TrainingScene",
    "dataset_of",
    "load_scene",
    "open_dataset",
    "refuse_overlap",
    "training_scenes",
]
