"""The error codes that Tencent lists for each action of Batch, besides those that all APIs have in common."""

from __future__ import annotations

_FAMILIES = {
    "IP": "InvalidParameter",
    "IPV": "InvalidParameterValue",
    "RNF": "ResourceNotFound",
    "UO": "UnsupportedOperation",
    "IE": "InternalError",
    "LE": "LimitExceeded",
}

_LISTED = {
    "AttachInstances": """
        InternalError IE.CallCvm IP.EnvIdMalformed IPV.InstanceIdDuplicated RNF.ComputeEnv UnsupportedOperation
        UO.InstancesNotAllowToAttach
    """,
    "CreateComputeEnv": """
        InternalError IE.CallCam IE.CallCvm IE.CallTagAPI IP.CvmParameters IP.EnvDescriptionTooLong
        IP.EnvNameTooLong IP.ImageIdMalformed IP.InvalidParameterCombination IP.NotificationEventNameDuplicate
        IP.NotificationTopicName IP.NotificationTopicNameTooLong IPV.ComputeEnv IPV.InstanceType
        IPV.InvalidDataTypeAny IPV.InvalidZoneMismatchRegion IPV.LocalPath IPV.Negative IPV.RemoteStoragePath
        IPV.RemoteStorageSchemeType IPV.UnavailableZone InvalidZone.MismatchRegion LE.ComputeEnvQuota LE.CpuQuota
        UnauthorizedOperation.UserNotAllowedToUseBatch
    """,
    "CreateTaskTemplate": """
        AllowedOneAttributeInEnvIdAndComputeEnv InternalError IE.CallTagAPI IP.CvmParameters IP.EnvIdMalformed
        IP.ImageIdMalformed IP.TaskName IP.TaskNameTooLong IP.TaskTemplateName IP.TaskTemplateNameTooLong
        IPV.ComputeEnv IPV.DependenceNotFoundTaskName IPV.DependenceUnfeasible IPV.InvalidDataTypeAny IPV.LocalPath
        IPV.MaxRetryCount IPV.Negative IPV.RemoteStoragePath IPV.RemoteStorageSchemeType LE.TaskTemplateQuota
    """,
    "DeleteComputeEnv": """
        InternalError IP.EnvIdMalformed RNF.ComputeEnv UnsupportedOperation UO.AcceptOtherRequest
        UO.ComputeEnvAcceptOtherRequest UO.ComputeEnvOperation UO.ComputeNodeForbidTerminate
    """,
    "DeleteJob": """
        InternalError IE.CallTagAPI IP.JobIdMalformed ResourceInUse.Job RNF.Job UnsupportedOperation
    """,
    "DeleteTaskTemplates": """
        InternalError IP.TaskTemplateIdMalformed RNF.TaskTemplate
    """,
    "DescribeAvailableCvmInstanceTypes": """
        InternalError IE.CallCam IE.CallCvm InvalidFilter InvalidParameterValue IPV.InvalidFilter
        IPV.InvalidZoneMismatchRegion IPV.LimitExceeded InvalidZone.MismatchRegion
    """,
    "DescribeComputeEnv": """
        InternalError IP.EnvIdMalformed RNF.ComputeEnv
    """,
    "DescribeComputeEnvActivities": """
        InternalError IP.ComputeNodeIdMalformed IP.EnvIdMalformed RNF.ComputeEnv UnknownParameter
    """,
    "DescribeComputeEnvCreateInfo": """
        IP.EnvIdMalformed RNF.ComputeEnv
    """,
    "DescribeComputeEnvCreateInfos": """
        IP.EnvIdMalformed IP.InvalidParameterCombination InvalidParameterValue InvalidZone.MismatchRegion
        UnknownParameter
    """,
    "DescribeComputeEnvs": """
        InternalError InvalidFilter IP.EnvIdMalformed IP.InvalidParameterCombination InvalidParameterValue
        IPV.InvalidFilter IPV.ResourceType InvalidZone.MismatchRegion UnknownParameter
    """,
    "DescribeCvmZoneInstanceConfigInfos": """
        InternalError IE.CallCam IE.CallCvm InvalidFilter InvalidParameterValue IPV.InvalidFilter
        IPV.InvalidZoneMismatchRegion IPV.LimitExceeded IPV.UnsupportedBatchInstanceChargeType
        InvalidZone.MismatchRegion
    """,
    "DescribeInstanceCategories": """
        InternalError UnsupportedOperation
    """,
    "DescribeJob": """
        InternalError IP.JobIdMalformed RNF.Job
    """,
    "DescribeJobMonitorData": """
        InternalError IP.JobIdMalformed RNF.Job
    """,
    "DescribeJobSubmitInfo": """
        InternalError IP.JobIdMalformed RNF.Job
    """,
    "DescribeJobs": """
        InternalError InvalidFilter IP.InvalidParameterCombination IP.JobIdMalformed InvalidParameterValue
        IPV.InvalidFilter IPV.LimitExceeded InvalidZone.MismatchRegion UnknownParameter
    """,
    "DescribeTask": """
        InternalError IP.JobIdMalformed RNF.Task
    """,
    "DescribeTaskLogs": """
        InternalError IP.JobIdMalformed IP.TaskName IP.TaskNameTooLong InvalidParameterValue IPV.Negative RNF.Job
        RNF.Task RNF.TaskInstance UnknownParameter
    """,
    "DescribeTaskTemplates": """
        InternalError IP.InvalidParameterCombination IP.TaskTemplateIdMalformed InvalidParameterValue
        UnknownParameter
    """,
    "DetachInstances": """
        InternalError IE.CallCvm IP.EnvIdMalformed IPV.InstanceIdDuplicated RNF.ComputeEnv UnknownParameter
        UnsupportedOperation
    """,
    "ModifyComputeEnv": """
        InternalError IE.CallCpmAPI IP.EnvDescriptionTooLong IP.EnvIdMalformed IP.EnvNameTooLong IPV.InstanceType
        IPV.InstanceTypeDuplicate IPV.InstanceTypesEmpty IPV.LimitExceeded IPV.Negative LE.CpuQuota RNF.ComputeEnv
        UO.AcceptOtherRequest UO.ComputeEnvAcceptOtherRequest UO.ComputeNodeForbidTerminate
        UO.NotEnoughComputeNodesToTerminate
    """,
    "ModifyTaskTemplate": """
        AllowedOneAttributeInEnvIdAndComputeEnv InternalError IP.CvmParameters IP.TaskName IP.TaskNameTooLong
        IP.TaskTemplateDescriptionTooLong IP.TaskTemplateIdMalformed IP.TaskTemplateName IP.TaskTemplateNameTooLong
        InvalidParameterAtLeastOneAttribute IPV.ComputeEnv IPV.DependenceNotFoundTaskName IPV.DependenceUnfeasible
        IPV.LocalPath IPV.MaxRetryCount IPV.Negative IPV.RemoteStoragePath IPV.RemoteStorageSchemeType
        RNF.TaskTemplate
    """,
    "RetryJobs": """
        InternalError IP.JobIdMalformed RNF.Job UnsupportedOperation
    """,
    "SubmitJob": """
        AllowedOneAttributeInEnvIdAndComputeEnv InternalError IE.CallCvm IE.CallTagAPI IP.CvmParameters
        IP.EnvIdMalformed IP.ImageIdMalformed IP.InvalidParameterCombination IP.JobDescriptionTooLong
        IP.JobNameTooLong IP.NotificationEventNameDuplicate IP.NotificationTopicName IP.NotificationTopicNameTooLong
        IP.TaskName IP.TaskNameTooLong IPV.ComputeEnv IPV.DependenceNotFoundTaskName IPV.DependenceUnfeasible
        IPV.InstanceTypeDuplicate IPV.InvalidDataTypeAny IPV.InvalidZoneMismatchRegion IPV.LimitExceeded
        IPV.LocalPath IPV.MaxRetryCount IPV.Negative IPV.NotFloat IPV.RemoteStoragePath IPV.RemoteStorageSchemeType
        IPV.UnavailableZone InvalidZone.MismatchRegion LE.JobQuota RNF.ComputeEnv
        UnauthorizedOperation.UserNotAllowedToUseBatch
    """,
    "TerminateComputeNode": """
        IP.ComputeNodeIdMalformed IP.EnvIdMalformed RNF.ComputeEnv RNF.ComputeNode UO.AcceptOtherRequest
        UO.ComputeEnvAcceptOtherRequest UO.ComputeEnvOperation UO.ComputeNodeForbidTerminate
        UO.ComputeNodeIsTerminating
    """,
    "TerminateComputeNodes": """
        IP.ComputeNodeIdMalformed IP.EnvIdMalformed RNF.ComputeEnv RNF.ComputeNode UnsupportedOperation
        UO.AcceptOtherRequest UO.ComputeEnvAcceptOtherRequest UO.ComputeNodeForbidTerminate
        UO.ComputeNodeIsTerminating
    """,
    "TerminateJob": """
        InternalError IP.JobIdMalformed ResourceInUse.Job RNF.Job UnsupportedOperation
        UO.TerminateOperationWithEnvId
    """,
    "TerminateTaskInstance": """
        InternalError IP.JobIdMalformed RNF.TaskInstance UO.TerminateOperationWithEnvId
    """,
}


def _spelled(short: str) -> str:
    family, dot, detail = short.partition(".")
    return _FAMILIES.get(family, family) + dot + detail


#: Codes by action.
DOCUMENTED = {action: frozenset(map(_spelled, codes.split())) for action, codes in _LISTED.items()}
