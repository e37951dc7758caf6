"""What a command or a pipeline file may say. The only place where defaults live."""

from changedet.config.base import LARGEST_VALUE, NEUTRAL_REFLECTANCE, Bytes, checked, parse_bytes
from changedet.config.batch import BatchConfig, BatchStep, check_batch_options
from changedet.config.data import DatasetConfig, DatasetKind, EvaluateConfig
from changedet.config.learn import (
    AugmentConfig,
    Candidate,
    EarlyStop,
    FinetuneConfig,
    HeldOutCalibration,
    LossConfig,
    ModelPlan,
    Recipe,
    TrainConfig,
)
from changedet.config.pipeline import Pipeline, load_pipeline
from changedet.config.plan import PlanConfig, check_plan_options
from changedet.config.pretrain import MadeConfig, PlacesConfig, PretrainConfig, PseudoConfig
from changedet.config.run import (
    Bounds,
    Coregister,
    Detector,
    Normalize,
    PolygonConfig,
    Resampling,
    RunConfig,
    RunStep,
    Threshold,
    check_options,
    parse_rule,
)

__all__ = [
    "LARGEST_VALUE",
    "NEUTRAL_REFLECTANCE",
    "AugmentConfig",
    "BatchConfig",
    "BatchStep",
    "Bounds",
    "Bytes",
    "Candidate",
    "Coregister",
    "DatasetConfig",
    "DatasetKind",
    "Detector",
    "EarlyStop",
    "EvaluateConfig",
    "FinetuneConfig",
    "HeldOutCalibration",
    "LossConfig",
    "MadeConfig",
    "ModelPlan",
    "Normalize",
    "Pipeline",
    "PlacesConfig",
    "PlanConfig",
    "PolygonConfig",
    "PretrainConfig",
    "PseudoConfig",
    "Recipe",
    "Resampling",
    "RunConfig",
    "RunStep",
    "Threshold",
    "TrainConfig",
    "check_batch_options",
    "check_options",
    "check_plan_options",
    "checked",
    "load_pipeline",
    "parse_bytes",
    "parse_rule",
]
