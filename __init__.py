"""LoRA Atelier: from a folder of raw pictures to an installed, explained LoRA."""
