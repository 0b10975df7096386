"""Thin ComfyUI nodes (V1 classes), one file per stage; `host` is the only module that knows ComfyUI."""
