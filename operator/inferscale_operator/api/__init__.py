"""The custom resources of `inferscale.dev/v1alpha1`: pydantic models that are the source of `crds/`."""

from inferscale_operator.api.accelerator_profile import (
    ACCELERATOR_PROFILE,
    AcceleratorProfileSpec,
    AcceleratorProfileStatus,
)
from inferscale_operator.api.inference_allocation import (
    INFERENCE_ALLOCATION,
    InferenceAllocationSpec,
    InferenceAllocationStatus,
)
from inferscale_operator.api.inference_service import (
    INFERENCE_SERVICE,
    InferenceServiceSpec,
    InferenceServiceStatus,
)
from inferscale_operator.api.model_profile import MODEL_PROFILE, ModelProfileSpec, ModelProfileStatus
from inferscale_operator.api.optimizer_policy import (
    OPTIMIZER_POLICY,
    OptimizerPolicySpec,
    OptimizerPolicyStatus,
)
from inferscale_operator.api.resource import Resource
from inferscale_operator.api.service_class import SERVICE_CLASS, ServiceClassSpec, ServiceClassStatus

RESOURCES = (
    ACCELERATOR_PROFILE,
    MODEL_PROFILE,
    SERVICE_CLASS,
    OPTIMIZER_POLICY,
    INFERENCE_SERVICE,
    INFERENCE_ALLOCATION,
)
"""All kinds of the group."""

__all__ = [
    "ACCELERATOR_PROFILE",
    "INFERENCE_ALLOCATION",
    "INFERENCE_SERVICE",
    "MODEL_PROFILE",
    "OPTIMIZER_POLICY",
    "RESOURCES",
    "SERVICE_CLASS",
    "AcceleratorProfileSpec",
    "AcceleratorProfileStatus",
    "InferenceAllocationSpec",
    "InferenceAllocationStatus",
    "InferenceServiceSpec",
    "InferenceServiceStatus",
    "ModelProfileSpec",
    "ModelProfileStatus",
    "OptimizerPolicySpec",
    "OptimizerPolicyStatus",
    "Resource",
    "ServiceClassSpec",
    "ServiceClassStatus",
]
