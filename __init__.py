"""LoRA Atelier: from a folder of raw pictures to an installed, explained LoRA."""

from __future__ import annotations

from .nodes import captions, dataset, export, training, validation

WEB_DIRECTORY = "./web"

NODE_CLASS_MAPPINGS = {
    "AtelierLoadImageFolder": dataset.LoadImageFolder,
    "AtelierMeasureImages": dataset.MeasureImages,
    "AtelierFilterCharacterCount": dataset.FilterCharacterCount,
    "AtelierFilterFaceDetail": dataset.FilterFaceDetail,
    "AtelierFilterView": dataset.FilterView,
    "AtelierFilterSubjectSize": dataset.FilterSubjectSize,
    "AtelierFilterFramingConsistency": dataset.FilterFramingConsistency,
    "AtelierCurationReport": dataset.CurationReport,
    "AtelierCaptionDataset": captions.CaptionDataset,
    "AtelierPrepareDataset": captions.PrepareDataset,
    "AtelierBaseModel": training.ChooseBaseModel,
    "AtelierNetwork": training.NetworkSettings,
    "AtelierOptimizer": training.OptimizerAndSchedule,
    "AtelierValidationPlan": training.MakeValidationPlan,
    "AtelierEmbeddedOptions": training.EmbeddedOptions,
    "AtelierTrainLora": training.TrainLora,
    "AtelierOpenRun": training.OpenRun,
    "AtelierLossCurve": training.LossCurve,
    "AtelierValidateCheckpoints": validation.ValidateCheckpoints,
    "AtelierScoreCheckpoints": validation.ScoreCheckpoints,
    "AtelierChooseCheckpoint": validation.ChooseCheckpoint,
    "AtelierCheckpointGrid": validation.CheckpointGrid,
    "AtelierQualityCurves": validation.QualityCurves,
    "AtelierLoraCard": export.MakeLoraCard,
    "AtelierExportLora": export.ExportLora,
    "AtelierInspectLora": export.InspectLora,
    "AtelierRunCard": export.RunCard,
}

NODE_DISPLAY_NAME_MAPPINGS = {
    "AtelierLoadImageFolder": "Load Image Folder",
    "AtelierMeasureImages": "Measure Images",
    "AtelierFilterCharacterCount": "Filter: Character Count",
    "AtelierFilterFaceDetail": "Filter: Face Detail",
    "AtelierFilterView": "Filter: View",
    "AtelierFilterSubjectSize": "Filter: Subject Size",
    "AtelierFilterFramingConsistency": "Filter: Framing Consistency",
    "AtelierCurationReport": "Curation Report",
    "AtelierCaptionDataset": "Caption Dataset",
    "AtelierPrepareDataset": "Split and Prepare Dataset",
    "AtelierBaseModel": "Base Model",
    "AtelierNetwork": "Network",
    "AtelierOptimizer": "Optimizer and Schedule",
    "AtelierValidationPlan": "Validation Plan",
    "AtelierEmbeddedOptions": "Embedded Options",
    "AtelierTrainLora": "Train LoRA",
    "AtelierOpenRun": "Open Run",
    "AtelierLossCurve": "Loss Curve",
    "AtelierValidateCheckpoints": "Validate Checkpoints (diffusers)",
    "AtelierScoreCheckpoints": "Score Checkpoints",
    "AtelierChooseCheckpoint": "Choose Checkpoint",
    "AtelierCheckpointGrid": "Checkpoint Grid",
    "AtelierQualityCurves": "Quality Curves",
    "AtelierLoraCard": "LoRA Card",
    "AtelierExportLora": "Export LoRA",
    "AtelierInspectLora": "Inspect LoRA",
    "AtelierRunCard": "Run Card",
}
